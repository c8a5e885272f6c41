// Run loops in C++, and how they end.

#include "vm/accel/devices/run_loop.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>

#include "bind.hpp"
#include "devices.hpp"
#include "exit_object.hpp"
#include "gil.hpp"
#include "run_loop.hpp"
#include "run_time.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

StopKind kind_from(const std::string& name) {
  for (const StopKind kind : {StopKind::exit, StopKind::power_off, StopKind::reset, StopKind::cancelled})
    if (name == stop_kind_name(kind)) return kind;
  throw vm::InvalidConfig("a machine stops by \"exit\", \"power_off\", \"reset\" or \"cancelled\", not \"" + name +
                          "\"");
}

std::string repr(const StopReason& self) {
  return std::string("<StopReason ") + stop_kind_name(self.kind) +
         (self.kind == StopKind::exit ? " " + std::to_string(self.status) : "") +
         (self.source.empty() ? "" : ", " + self.source) + ">";
}

std::string repr(const LoopObject& self) {
  const std::string vcpu = " on vCPU " + std::to_string(self.vcpu);
  if (self.stop) return "<LoopResult " + repr(*self.stop) + vcpu + ">";
  return "<LoopResult " + py::repr(self.exit).cast<std::string>() + vcpu + ">";
}

std::shared_ptr<StopRequest> stop_from(const std::optional<std::shared_ptr<StopRequest>>& stop) {
  return stop && *stop ? *stop : std::make_shared<StopRequest>();
}

void bind_stop(py::module_& module) {
  py::class_<StopReason>(module, "StopReason", "Why a machine stopped.")
      .def_property_readonly(
          "kind", [](const StopReason& self) { return stop_kind_name(self.kind); },
          "\"exit\", \"power_off\", \"reset\" or \"cancelled\".")
      .def_readonly("status", &StopReason::status, "What the guest ended with; 0 unless kind is \"exit\".")
      .def_readonly("source", &StopReason::source, "Who asked, for people.")
      .def("__repr__", [](const StopReason& self) { return repr(self); });
  py::class_<StopRequest, py::smart_holder>(
      module, "StopRequest", "How a device or another thread ends a run loop. The first reason counts. Any thread.")
      .def(py::init<>())
      .def(
          "request",
          [](StopRequest& self, const std::string& kind, std::uint32_t status, const std::string& source) {
            const StopKind parsed = kind_from(kind);
            const py::gil_scoped_release release;
            self.request({parsed, status, source});
          },
          "kind"_a = "cancelled", "status"_a = 0, "source"_a = "", "End the loops that watch this request.")
      .def("clear", &StopRequest::clear, py::call_guard<py::gil_scoped_release>(), "Forget the reason.")
      .def_property_readonly("reason", &StopRequest::reason, "The reason (StopReason), or None.");
}

}  // namespace

LoopObject loop_object(const LoopResult& result, const std::vector<std::shared_ptr<Vcpu>>& vcpus) {
  for (const auto& vcpu : vcpus)
    if (vcpu->id() == result.vcpu) return {result.stop, result.vcpu, exit_object(result.exit, vcpu, result.number)};
  throw vm::ClosedError("vCPU " + std::to_string(result.vcpu) + " was closed while it ran");
}

void bind_run_loop(py::module_& module) {
  bind_stop(module);
  py::class_<LoopObject>(module, "LoopResult", "How a run loop ended.")
      .def_readonly("stop", &LoopObject::stop, "What a device or a thread asked for (StopReason), or None.")
      .def_readonly("vcpu", &LoopObject::vcpu, "Number of the vCPU that ended the loop.")
      .def_readonly("exit", &LoopObject::exit, "Its last exit, for ``match``: Timeout, Hlt, Shutdown ...")
      .def("__repr__", [](const LoopObject& self) { return repr(self); });
}

void add_run_loop(VcpuType& type) {
  type.def(
      "run_loop",
      [](const std::shared_ptr<Vcpu>& self, const py::object& handlers, const py::object& timeout,
         const std::optional<std::shared_ptr<StopRequest>>& stop, bool stop_at_unclaimed) {
        const auto bus = bus_from(handlers);
        const auto request = stop_from(stop);
        PythonSignals signals;
        const LoopOptions options{timeout_from(timeout), &signals, stop_at_unclaimed};
        LoopResult result;
        {
          const GilReleased release;
          result = run_vcpu(*self, *bus, *request, options);
        }
        return loop_object(result, {self});
      },
      "handlers"_a, "timeout"_a = py::none(), py::kw_only(), "stop"_a = py::none(), "stop_at_unclaimed"_a = false,
      "Run, and let devices answer, until an exit comes that is not theirs; as ``Vm.run_loop`` for this vCPU alone.");
}

void add_run_loop(VmType& type) {
  type.def(
      "run_loop",
      [](Vm& self, const py::object& handlers, const py::object& timeout,
         const std::optional<std::shared_ptr<StopRequest>>& stop, bool stop_at_unclaimed) {
        const auto bus = bus_from(handlers);
        const auto request = stop_from(stop);
        PythonSignals signals;
        const LoopOptions options{timeout_from(timeout), &signals, stop_at_unclaimed};
        LoopResult result;
        std::vector<std::shared_ptr<Vcpu>> vcpus;
        {
          const GilReleased release;
          vcpus = self.vcpus();
          result = run_vm(self, *bus, *request, options);
        }
        return loop_object(result, vcpus);
      },
      "handlers"_a, "timeout"_a = py::none(), py::kw_only(), "stop"_a = py::none(), "stop_at_unclaimed"_a = false,
      "Run all vCPUs, each on a thread of its own, and let devices answer their exits in C++.\n\n"
      "handlers: a DeviceBus, or a mapping of ports (an int or a range) to devices. Ends when ``stop`` (a StopRequest) "
      "is requested, when ``timeout`` seconds are over, or when an exit comes that is not for a device: Hlt, Shutdown, "
      "InternalError ...; with ``stop_at_unclaimed`` also at an access that no device answers, which otherwise reads "
      "as all ones. The vCPUs belong to the calling thread afterwards. Releases the GIL; Ctrl-C raises "
      "KeyboardInterrupt. Raises what devices raise, and what ``Vcpu.run`` raises.");
}
