// Vcpu: running, kicking, its thread.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>

#include "bind.hpp"
#include "exit_object.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using std::chrono::nanoseconds;

namespace {

/// Lets Python's signal handlers run while a guest does.
class PythonSignals final : public SignalCheck {
 public:
  void check() override {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
  nanoseconds interval() const noexcept override { return std::chrono::milliseconds(200); }
};

/// By hand, because pybind11 would try all conversions twice for an integer.
std::optional<nanoseconds> timeout_from(const py::object& timeout) {
  if (timeout.is_none()) return {};
  const double seconds = PyFloat_AsDouble(timeout.ptr());
  if (seconds == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (seconds == HUGE_VAL) return {};
  if (!(seconds >= 0))
    throw vm::InvalidConfig("a timeout is a number of seconds from 0 up, got " + std::to_string(seconds));
  constexpr double longest = 9e9;  // seconds whose nanoseconds still fit 64 bits
  return nanoseconds(static_cast<std::int64_t>(std::min(seconds, longest) * 1e9));
}

py::object run(const std::shared_ptr<Vcpu>& self, const py::object& timeout) {
  PythonSignals signals;
  const RunOptions options{timeout_from(timeout), &signals};
  const Vcpu::Use use(*self);  // until the exit's bytes are copied
  {
    const py::gil_scoped_release release;
    self->run(use, options);
  }
  return last_exit_object(self);
}

py::dict exit_counts(const Vcpu& self) {
  const auto counts = self.exit_counts();
  py::dict result;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] != 0) result[exit_name(i)] = counts[i];
  }
  return result;
}

std::string repr(const Vcpu& self) {
  const std::string name = "<Vcpu " + std::to_string(self.id());
  if (self.closed()) return name + ", closed>";
  std::uint64_t exits = 0;
  for (const std::uint64_t count : self.exit_counts()) exits += count;
  return name + ", " + std::to_string(exits) + (exits == 1 ? " exit>" : " exits>");
}

}  // namespace

VcpuType bind_vcpu(py::module_& module) {
  VcpuType type(module, "Vcpu",
                "One processor of a virtual machine.\n\n"
                "It belongs to a thread: the one that created it, until another calls ``attach``. Only that thread may "
                "run it and touch its state; ``kick``, ``close``, ``closed``, ``id`` and ``exit_counts`` are for any "
                "thread. A call from a wrong thread raises AccessViolation.");
  type.def("run", &run, "timeout"_a = py::none(),
           "Run the guest until it needs something; returns an exit for ``match``.\n\n"
           "``timeout`` is in seconds; when it is over, the result is ``Timeout()``. Releases the GIL; Ctrl-C raises "
           "KeyboardInterrupt. Raises InvalidConfig when the last exit waits for an answer, ClosedError, "
           "AccessViolation, PlatformError.")
      .def("kick", &Vcpu::kick,
           "Make the run in progress, or the next one, return ``Interrupted()``.\n\n"
           "No kick is lost, and none is seen twice; several before the return are one. Any thread, and signal "
           "handlers.")
      .def("attach", &Vcpu::attach, py::call_guard<py::gil_scoped_release>(),
           "Make the vCPU belong to the calling thread.\n\nRaises InvalidConfig while it is inside a call elsewhere.")
      .def("complete", &Vcpu::complete, py::call_guard<py::gil_scoped_release>(),
           "Finish what the last exit left to do, without running the guest, so that the registers are final.")
      .def("close", &Vcpu::close, py::call_guard<py::gil_scoped_release>(),
           "Release the vCPU; a run in progress raises ClosedError. Twice is fine.")
      .def_property_readonly("id", &Vcpu::id, "Its number in the VM.")
      .def_property_readonly("closed", &Vcpu::closed, "True after ``close``.")
      .def_property_readonly("exit_counts", &exit_counts, "How often ``run`` returned each kind of exit, by name.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__",
           [](Vcpu& self, const py::args&) {
             const py::gil_scoped_release release;
             self.close();
           })
      .def("__repr__", &repr);
  return type;
}
