// Vcpu: running, kicking, its thread.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>

#include "bind.hpp"
#include "exit_object.hpp"
#include "gil.hpp"
#include "run_time.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

py::object run(const std::shared_ptr<Vcpu>& self, const py::object& timeout) {
  PythonSignals signals;
  const RunOptions options{timeout_from(timeout), &signals};
  const Vcpu::Use use(*self);  // until the exit's bytes are copied
  {
    const GilReleased release;
    self->run(use, options);
  }
  return last_exit_object(self);
}

/// The one argument of run(timeout=None).
py::handle timeout_argument(PyObject* const* arguments, Py_ssize_t positional, PyObject* names) {
  const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  const Py_ssize_t count = positional + named;
  if (count > 1) throw py::type_error("run() takes at most 1 argument, timeout; got " + std::to_string(count));
  if (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") != 0)
    throw py::type_error("run() has one argument, timeout; got " + py::repr(names).cast<std::string>());
  return count == 0 ? Py_None : arguments[0];
}

PyObject* call_run(PyObject* self, PyObject* const* arguments, Py_ssize_t count, PyObject* names) noexcept {
  try {
    const auto timeout = py::reinterpret_borrow<py::object>(timeout_argument(arguments, count, names));
    return run(py::cast<std::shared_ptr<Vcpu>>(py::handle(self)), timeout).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
  return nullptr;
}

/// By hand, because every exit passes here: for a call with a keyword pybind11 takes as long as for all the rest.
py::object run_method(const VcpuType& type) {
  static PyMethodDef definition = {
      "run", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&call_run)), METH_FASTCALL | METH_KEYWORDS,
      "run($self, /, timeout=None)\n--\n\n"
      "Run the guest until it needs something; returns an exit for ``match``.\n\n"
      "``timeout`` is in seconds; when it is over, the result is ``Timeout()``. Releases the GIL; Ctrl-C raises "
      "KeyboardInterrupt. Raises InvalidConfig when the last exit waits for an answer, ClosedError, AccessViolation, "
      "PlatformError."};
  return py::reinterpret_steal<py::object>(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &definition));
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
  type.attr("run") = run_method(type);
  type.def("kick", &Vcpu::kick,
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
