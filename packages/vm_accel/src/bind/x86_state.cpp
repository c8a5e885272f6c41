// The rest of an x86 vCPU's state: debug registers, XCRs, FPU, CPUID, events, local APIC, time, translation.

#include "vm/accel/hypervisor/x86_state.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bind.hpp"
#include "text.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

/// vcpu.name reads a copy through `get`, assigning writes it through `set`; both without the GIL.
template <class Get, class Set>
void add(VcpuType& type, const char* name, Get get, Set set, const char* doc) {
  type.def_property(name, py::cpp_function(get, WithoutGil()), py::cpp_function(set, WithoutGil()), doc);
}

std::string repr_debug_regs(const X86DebugRegs& self) {
  return "<X86DebugRegs" + hex_field("dr0", self.dr[0]) + hex_field("dr1", self.dr[1]) + hex_field("dr2", self.dr[2]) +
         hex_field("dr3", self.dr[3]) + hex_field("dr6", self.dr6) + hex_field("dr7", self.dr7) + ">";
}

std::string repr_translation(const X86Translation& self) {
  return self.valid ? "<X86Translation" + hex_field("paddr", self.paddr) + ">" : "<X86Translation, not mapped>";
}

std::map<std::uint32_t, std::uint64_t> xcrs(Vcpu& self) {
  std::map<std::uint32_t, std::uint64_t> result;
  for (const X86Xcr& xcr : self.x86()->xcrs()) result[xcr.index] = xcr.value;
  return result;
}

void set_xcrs(Vcpu& self, const std::map<std::uint32_t, std::uint64_t>& values) {
  std::vector<X86Xcr> list;
  for (const auto& [index, value] : values) list.push_back({index, value});
  self.x86()->set_xcrs(list);
}

std::uint64_t tsc(Vcpu& self) { return self.x86()->msrs({msr_index("TSC")}).front().value; }

void set_tsc(Vcpu& self, Unsigned value) { self.x86()->set_msrs({{msr_index("TSC"), value.value}}); }

py::bytes nested_state(Vcpu& self) {
  std::vector<std::uint8_t> state;
  {
    const py::gil_scoped_release release;
    state = self.x86()->nested_state();
  }
  return py::bytes(reinterpret_cast<const char*>(state.data()), state.size());
}

void set_nested_state(Vcpu& self, const py::bytes& state) {
  const std::string_view view = state;
  const std::vector<std::uint8_t> copy(view.begin(), view.end());
  const py::gil_scoped_release release;
  self.x86()->set_nested_state(copy);
}

}  // namespace

void bind_x86_state(py::module_& module) {
  py::class_<X86DebugRegs>(module, "X86DebugRegs",
                           "The debug registers of the guest. A copy: assign it to ``vcpu.debug_regs``.")
      .def(py::init<>())
      .def_property(
          "dr", [](const X86DebugRegs& self) { return py::tuple(py::cast(self.dr)); },
          [](X86DebugRegs& self, const std::array<std::uint64_t, 4>& dr) { self.dr = dr; },
          "DR0 to DR3: linear addresses of break- and watchpoints.")
      .def_readwrite("dr6", &X86DebugRegs::dr6, "What happened.")
      .def_readwrite("dr7", &X86DebugRegs::dr7, "What is watched.")
      .def("__repr__", &repr_debug_regs);
  py::class_<X86Translation>(module, "X86Translation", "What a linear address means to the guest's page tables.")
      .def_readonly("valid", &X86Translation::valid, "False for an address that is not mapped.")
      .def_readonly("paddr", &X86Translation::paddr, "Guest-physical address; meaningless unless valid.")
      .def_readonly("writable", &X86Translation::writable, "As the hypervisor says; KVM always says True.")
      .def_readonly("user", &X86Translation::user, "As the hypervisor says; KVM always says False.")
      .def("__bool__", [](const X86Translation& self) { return self.valid; })
      .def("__repr__", &repr_translation);
}

void add_x86_state(VcpuType& type) {
  add(
      type, "debug_regs", [](Vcpu& self) { return self.x86()->debug_regs(); },
      [](Vcpu& self, const X86DebugRegs& regs) { self.x86()->set_debug_regs(regs); },
      "Debug registers (X86DebugRegs): reading gives a copy, assigning writes them.");
  add(
      type, "fpu", [](Vcpu& self) { return self.x86()->fpu(); },
      [](Vcpu& self, const X86Fpu& fpu) { self.x86()->set_fpu(fpu); },
      "x87 and SSE registers (X86Fpu): reading gives a copy, assigning writes them.");
  add(
      type, "xsave", [](Vcpu& self) { return self.x86()->xsave(); },
      [](Vcpu& self, const X86Xsave& xsave) { self.x86()->set_xsave(xsave); },
      "All state that XSAVE manages (X86Xsave): reading gives a copy, assigning writes it.");
  add(type, "xcrs", &xcrs, &set_xcrs,
      "Extended control registers, {number: value}; 0 is XCR0. Reading gives a copy, assigning writes them.");
  add(
      type, "pdptrs", [](Vcpu& self) { return self.x86()->pdptrs(); },
      [](Vcpu& self, const X86Pdptrs& pdptrs) { self.x86()->set_pdptrs(pdptrs); },
      "The four page-directory pointers in the processor, or None without PAE paging. Assigning ``sregs`` loads them "
      "from memory; assign them afterwards.");
  add(
      type, "cpuid", [](Vcpu& self) { return std::make_shared<CpuidTable>(self.x86()->cpuid()); },
      [](Vcpu& self, const CpuidTable& table) { self.x86()->set_cpuid(table); },
      "What CPUID answers (CpuidTable): reading gives a copy, assigning writes it. Before the first run; KVM refuses "
      "another table afterwards.");
  add(
      type, "events", [](Vcpu& self) { return self.x86()->events(); },
      [](Vcpu& self, const X86Events& events) { self.x86()->set_events(events); },
      "Exceptions, interrupts, NMIs and SMIs on their way (X86Events): reading gives a copy, assigning writes them.");
  add(
      type, "lapic", [](Vcpu& self) { return self.x86()->lapic(); },
      [](Vcpu& self, const X86Lapic& lapic) { self.x86()->set_lapic(lapic); },
      "The local APIC (X86Lapic): reading gives a copy, assigning writes it. Raises InvalidConfig in a VM without an "
      "interrupt controller.");
  add(
      type, "tsc_khz", [](Vcpu& self) { return self.x86()->tsc_khz(); },
      [](Vcpu& self, std::uint32_t khz) { self.x86()->set_tsc_khz(khz); },
      "Frequency of the guest's time stamp counter in kHz. Raises NotSupported for another than the host's where "
      "KVM_CAP_TSC_CONTROL is missing.");
  add(type, "tsc", &tsc, &set_tsc, "The guest's time stamp counter.");
  type.def_property("nested_state", &nested_state, &set_nested_state,
                    "What a guest that is a hypervisor has set up, in the kernel's format (bytes). Raises "
                    "NotSupported where KVM_CAP_NESTED_STATE is missing.")
      .def(
          "translate", [](Vcpu& self, Unsigned vaddr) { return self.x86()->translate(vaddr.value); }, "vaddr"_a,
          WithoutGil(),
          "What a linear address means to the guest's page tables (KVM_TRANSLATE), for a read at privilege 0.\n\n"
          "KVM sets accessed flags on the way. For rights and reasons use vm_mem.paging on ``vm.memory``.")
      .def(
          "kvmclock_ctrl", [](Vcpu& self) { self.x86()->kvmclock_ctrl(); }, WithoutGil(),
          "Tell a guest with a kvmclock that it was stopped, so that its watchdogs do not bark. Raises PlatformError "
          "when it has switched none on.");
}
