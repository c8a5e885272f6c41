// What a vCPU stops for.

#include "vm/accel/hypervisor/guest_debug.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bind.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

using Kind = HardwareBreakpoint::Kind;

Kind kind_from(const std::string& name) {
  if (name == "execute") return Kind::execute;
  if (name == "write") return Kind::write;
  if (name == "read_write") return Kind::read_write;
  throw vm::InvalidConfig("a debug register watches for 'execute', 'write' or 'read_write', not '" + name + "'");
}

const char* name_of(Kind kind) noexcept {
  switch (kind) {
    case Kind::execute: return "execute";
    case Kind::write: return "write";
    case Kind::read_write: return "read_write";
  }
  return "unknown";
}

std::string repr_breakpoint(const HardwareBreakpoint& self) {
  return "HardwareBreakpoint(" + vm::hex(self.address) + ", " + std::to_string(self.size) + ", '" + name_of(self.kind) +
         "')";
}

std::vector<HardwareBreakpoint> hardware_of(const GuestDebugSettings& self) {
  std::vector<HardwareBreakpoint> result;
  for (const auto& slot : self.hardware) {
    if (slot) result.push_back(*slot);
  }
  return result;
}

void set_hardware(GuestDebugSettings& self, const std::vector<HardwareBreakpoint>& wanted) {
  if (wanted.size() > GuestDebugSettings::registers)
    throw vm::InvalidConfig("x86 has 4 debug registers, got " + std::to_string(wanted.size()) + " breakpoints");
  GuestDebugSettings next = self;
  next.hardware = {};
  for (std::size_t i = 0; i < wanted.size(); ++i) next.hardware[i] = wanted[i];
  validate(next);
  self = next;
}

std::string repr_settings(const GuestDebugSettings& self) {
  std::string text = "GuestDebug(";
  const auto add = [&text](const std::string& part) { text += (text.back() == '(' ? "" : ", ") + part; };
  if (self.single_step) add("single_step=True");
  if (self.software_breakpoints) add("software_breakpoints=True");
  if (self.block_interrupts) add("block_interrupts=True");
  std::string list;
  for (const HardwareBreakpoint& each : hardware_of(self)) list += (list.empty() ? "" : ", ") + repr_breakpoint(each);
  if (!list.empty()) add("hardware=[" + list + "]");
  return text + ")";
}

}  // namespace

void bind_guest_debug(py::module_& module) {
  py::class_<HardwareBreakpoint>(module, "HardwareBreakpoint",
                                 "One debug register in use (Intel SDM vol. 3 §17.2). Immutable.\n\n"
                                 "``address``: linear, a multiple of ``size`` (1, 2, 4 or 8 bytes). ``kind``: "
                                 "'execute' (size 1) stops before the instruction, 'write' and 'read_write' after the "
                                 "access.")
      .def(py::init([](Unsigned address, std::uint8_t size, const std::string& kind) {
             const HardwareBreakpoint made{address.value, size, kind_from(kind)};
             GuestDebugSettings form;
             form.hardware[0] = made;
             validate(form);
             return made;
           }),
           "address"_a, "size"_a = 1, "kind"_a = "execute")
      .def_readonly("address", &HardwareBreakpoint::address, "Linear address.")
      .def_readonly("size", &HardwareBreakpoint::size, "Bytes.")
      .def_property_readonly(
          "kind", [](const HardwareBreakpoint& self) { return name_of(self.kind); },
          "'execute', 'write' or 'read_write'.")
      .def(
          "__eq__", [](const HardwareBreakpoint& a, const HardwareBreakpoint& b) { return a == b; }, py::is_operator())
      .def("__hash__",
           [](const HardwareBreakpoint& self) {
             return py::hash(py::make_tuple(self.address, self.size, name_of(self.kind)));
           })
      .def("__repr__", &repr_breakpoint);
  py::class_<GuestDebugSettings> type(
      module, "GuestDebug",
      "What a vCPU stops for with a Debug exit; all off is not debugged. A copy: assign it to ``vcpu.debug``.\n\n"
      "While ``hardware`` breakpoints are set, the guest's own debug registers have no effect.");
  type.def(py::init([](bool single_step, bool software_breakpoints, bool block_interrupts,
                       const std::vector<HardwareBreakpoint>& hardware) {
             GuestDebugSettings made;
             made.single_step = single_step;
             made.software_breakpoints = software_breakpoints;
             made.block_interrupts = block_interrupts;
             set_hardware(made, hardware);
             return made;
           }),
           py::kw_only(), "single_step"_a = false, "software_breakpoints"_a = false, "block_interrupts"_a = false,
           "hardware"_a = std::vector<HardwareBreakpoint>())
      .def_readwrite("single_step", &GuestDebugSettings::single_step, "After each instruction.")
      .def_readwrite("software_breakpoints", &GuestDebugSettings::software_breakpoints,
                     "The guest's INT3 becomes a Debug exit instead of #BP.")
      .def_readwrite("block_interrupts", &GuestDebugSettings::block_interrupts,
                     "None is delivered while stepping (KVM_GUESTDBG_BLOCKIRQ).")
      .def_property("hardware", &hardware_of, &set_hardware, "HardwareBreakpoints, at most 4.")
      .def("__bool__", &GuestDebugSettings::any, "True when the vCPU stops for anything.")
      .def(
          "__eq__", [](const GuestDebugSettings& a, const GuestDebugSettings& b) { return a == b; }, py::is_operator())
      .def("__repr__", &repr_settings);
  type.attr("__hash__") = py::none();
}

void add_guest_debug(VcpuType& type) {
  using WithoutGil = py::call_guard<py::gil_scoped_release>;
  type.def_property(
          "debug", py::cpp_function([](Vcpu& self) { return self.guest_debug()->settings(); }, WithoutGil()),
          py::cpp_function([](Vcpu& self, const GuestDebugSettings& settings) { self.guest_debug()->set(settings); },
                           WithoutGil()),
          "What the vCPU stops for (GuestDebug): reading gives a copy, assigning sets it.\n\n"
          "See Debugger for breakpoints with ids. Raises NotSupported, PlatformError.")
      .def(
          "inject_breakpoint", [](Vcpu& self) { self.guest_debug()->inject_breakpoint(); }, WithoutGil(),
          "Give the guest #BP on the next run, as from the INT3 that its instruction pointer points at.")
      .def(
          "inject_debug",
          [](Vcpu& self, Unsigned dr6) {
            const py::gil_scoped_release release;
            self.guest_debug()->inject_debug(dr6.value);
          },
          "dr6"_a = Unsigned{0}, "Give the guest #DB on the next run, with these bits of DR6 set.");
}
