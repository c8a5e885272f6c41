#include "debug_objects.hpp"

#include <pybind11/stl.h>

#include <string>

#include "bind.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

std::string number(const std::optional<unsigned>& id) { return id ? std::to_string(*id) : "None"; }

std::string repr_stop(const StopObject& self) {
  const Stop& stop = self.stop;
  std::string text = std::string("Stop('") + to_string(stop.reason) + "', vcpu=" + std::to_string(stop.vcpu) +
                     ", pc=" + vm::hex(stop.pc);
  if (stop.id) text += ", id=" + number(stop.id);
  if (stop.reason == StopReason::watchpoint) text += ", address=" + vm::hex(stop.address);
  if (!self.exit.is_none()) text += ", exit=" + py::repr(self.exit).cast<std::string>();
  return text + ")";
}

std::string repr_breakpoint(const Breakpoint& self) {
  return "<Breakpoint " + std::to_string(self.id) + " at " + vm::hex(self.vaddr) +
         (self.hardware ? ", hardware, " : ", software, ") + std::to_string(self.hits) + " hits>";
}

std::string repr_watchpoint(const Watchpoint& self) {
  return "<Watchpoint " + std::to_string(self.id) + " on " + std::to_string(self.size) + " bytes at " +
         vm::hex(self.vaddr) + (self.hardware ? ", hardware, " : ", stepping, ") + std::to_string(self.hits) + " hits>";
}

std::string repr_abilities(const DebugAbilities& self) {
  const auto text = [](const char* name, bool works) { return std::string(name) + (works ? "=True" : "=False"); };
  return "<DebugAbilities " + text("single_step", self.single_step) + " " + text("breakpoint", self.breakpoint) + " " +
         text("watchpoint", self.watchpoint) + " " + text("int3", self.int3) + " " +
         text("int3_fails", self.int3_fails) + " " + text("int1_fails", self.int1_fails) + ">";
}

template <DebugPlace place>
DebugAbilities abilities(const DebugSupport& self) {
  return self[place];
}

void bind_stop(py::module_& module) {
  py::class_<StopObject> type(module, "Stop", "Why a debugged guest stands still; made for ``match``.");
  type.def_property_readonly(
          "reason", [](const StopObject& self) { return to_string(self.stop.reason); },
          "'breakpoint' (before the instruction), 'watchpoint' (after the access), 'step', 'exit', 'interrupted' or "
          "'timeout'.")
      .def_property_readonly(
          "vcpu", [](const StopObject& self) { return self.stop.vcpu; }, "The id of the vCPU that stopped.")
      .def_property_readonly(
          "pc", [](const StopObject& self) { return self.stop.pc; }, "Where it stands, as a linear address.")
      .def_property_readonly(
          "id", [](const StopObject& self) { return self.stop.id; }, "Of the breakpoint or watchpoint, or None.")
      .def_property_readonly(
          "address", [](const StopObject& self) { return self.stop.address; }, "What is watched; 0 otherwise.")
      .def_property_readonly(
          "exit", [](const StopObject& self) { return self.exit; },
          "What the guest needs when the reason is 'exit', as Vcpu.run returns it; otherwise None.")
      .def("__repr__", &repr_stop);
  type.attr("__match_args__") = py::make_tuple("reason", "vcpu", "pc", "id", "address", "exit");
}

void bind_points(py::module_& module) {
  py::class_<Breakpoint>(module, "Breakpoint", "A place where guests stop. A copy of what the Debugger knows.")
      .def_readonly("id", &Breakpoint::id)
      .def_readonly("vaddr", &Breakpoint::vaddr, "Linear address.")
      .def_readonly("paddr", &Breakpoint::paddr, "Where the trap instruction is; 0 for a hardware breakpoint.")
      .def_readonly("hardware", &Breakpoint::hardware, "It takes a debug register.")
      .def_readonly("hits", &Breakpoint::hits)
      .def("__repr__", &repr_breakpoint);
  py::class_<Watchpoint>(module, "Watchpoint", "Bytes that are watched. A copy of what the Debugger knows.")
      .def_readonly("id", &Watchpoint::id)
      .def_readonly("vaddr", &Watchpoint::vaddr, "Linear address.")
      .def_readonly("size", &Watchpoint::size, "Bytes.")
      .def_readonly("read", &Watchpoint::read)
      .def_readonly("write", &Watchpoint::write)
      .def_readonly("hardware", &Watchpoint::hardware, "It takes a debug register; else every instruction is a step.")
      .def_readonly("hits", &Watchpoint::hits)
      .def("__repr__", &repr_watchpoint);
}

void bind_support(py::module_& module) {
  py::class_<DebugAbilities>(module, "DebugAbilities", "What stops one kind of guest code on this machine.")
      .def_readonly("single_step", &DebugAbilities::single_step)
      .def_readonly("breakpoint", &DebugAbilities::breakpoint, "A debug register stops before an instruction.")
      .def_readonly("watchpoint", &DebugAbilities::watchpoint, "A debug register stops after a write.")
      .def_readonly("int3", &DebugAbilities::int3, "INT3 comes as a Debug exit.")
      .def_readonly("int3_fails", &DebugAbilities::int3_fails, "INT3 comes as InternalError, which does as well.")
      .def_readonly("int1_fails", &DebugAbilities::int1_fails, "The same of INT1 (0xF1).")
      .def("__repr__", &repr_abilities);
  py::class_<DebugSupport>(module, "DebugSupport",
                           "Which ways of debugging work on this machine, found out by trying them.")
      .def_property_readonly("real", &abilities<DebugPlace::real>, "Code in real mode.")
      .def_property_readonly("kernel", &abilities<DebugPlace::kernel>, "Code in long mode at privilege level 0.")
      .def_property_readonly("user", &abilities<DebugPlace::user>, "Code in long mode at privilege level 3.")
      .def_property_readonly("trap_instruction", &DebugSupport::trap_instruction,
                             "The byte of a software breakpoint: 0xCC, or 0xF1 where INT3 gets past the hypervisor.");
  module.def(
      "probe_debug",
      [](Hypervisor& hypervisor) {
        const py::gil_scoped_release release;
        const auto scratch = hypervisor.create_vm();
        const DebugSupport support = probe_debug(*scratch);
        scratch->close();
        return support;
      },
      "hypervisor"_a,
      "Try on a small VM what stops guest code here; returns DebugSupport.\n\nTakes some milliseconds. Raises "
      "NotSupported for guests that are not x86.");
}

}  // namespace

void bind_debug_objects(py::module_& module) {
  bind_stop(module);
  bind_points(module);
  bind_support(module);
}
