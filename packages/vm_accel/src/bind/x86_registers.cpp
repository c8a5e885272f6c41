// General and special registers of x86.

#include <pybind11/pybind11.h>

#include <string>
#include <utility>

#include "bind.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

using RegisterName = std::pair<const char*, std::uint64_t X86Regs::*>;

constexpr RegisterName general[] = {
    {"rax", &X86Regs::rax}, {"rbx", &X86Regs::rbx},       {"rcx", &X86Regs::rcx}, {"rdx", &X86Regs::rdx},
    {"rsi", &X86Regs::rsi}, {"rdi", &X86Regs::rdi},       {"rsp", &X86Regs::rsp}, {"rbp", &X86Regs::rbp},
    {"r8", &X86Regs::r8},   {"r9", &X86Regs::r9},         {"r10", &X86Regs::r10}, {"r11", &X86Regs::r11},
    {"r12", &X86Regs::r12}, {"r13", &X86Regs::r13},       {"r14", &X86Regs::r14}, {"r15", &X86Regs::r15},
    {"rip", &X86Regs::rip}, {"rflags", &X86Regs::rflags},
};

std::string repr_regs(const X86Regs& self) {
  std::string text = "<X86Regs";
  for (const auto& [name, member] : general) text += std::string(" ") + name + "=" + vm::hex(self.*member);
  return text + ">";
}

std::string repr_segment(const X86Segment& self) {
  if (self.unusable) return "<X86Segment unusable>";
  return "<X86Segment selector=" + vm::hex(self.selector) + " base=" + vm::hex(self.base) +
         " limit=" + vm::hex(self.limit) + " type=" + vm::hex(self.type) + " dpl=" + std::to_string(self.dpl) +
         (self.present ? " present" : "") + (self.code_or_data ? "" : " system") + (self.long_mode ? " long" : "") +
         (self.db ? " 32-bit" : "") + ">";
}

std::string repr_table(const X86DescriptorTable& self) {
  return "<X86DescriptorTable base=" + vm::hex(self.base) + " limit=" + vm::hex(self.limit) + ">";
}

std::string repr_sregs(const X86SpecialRegs& self) {
  return "<X86SpecialRegs cr0=" + vm::hex(self.cr0) + " cr2=" + vm::hex(self.cr2) + " cr3=" + vm::hex(self.cr3) +
         " cr4=" + vm::hex(self.cr4) + " cr8=" + vm::hex(self.cr8) + " efer=" + vm::hex(self.efer) +
         " apic_base=" + vm::hex(self.apic_base) + " cs=" + repr_segment(self.cs) + ">";
}

void bind_regs(py::module_& module) {
  py::class_<X86Regs> type(module, "X86Regs", "General registers, 64 bits each. A copy: assign it to ``vcpu.regs``.");
  type.def(py::init<>()).def("__repr__", &repr_regs);
  for (const auto& [name, member] : general) {
    type.def_property(
        name, [member = member](const X86Regs& self) { return self.*member; },
        [member = member](X86Regs& self, Unsigned value) { self.*member = value.value; });
  }
}

void bind_segments(py::module_& module) {
  py::class_<X86Segment>(module, "X86Segment", "A segment register with its hidden part (Intel SDM vol. 3 §3.4).")
      .def(py::init<>())
      .def_readwrite("base", &X86Segment::base, "Linear address of offset 0.")
      .def_readwrite("limit", &X86Segment::limit, "Last offset, in bytes whatever ``granularity`` says.")
      .def_readwrite("selector", &X86Segment::selector, "What the guest loaded.")
      .def_readwrite("type", &X86Segment::type, "4 bits.")
      .def_readwrite("dpl", &X86Segment::dpl, "Descriptor privilege level, 0 to 3.")
      .def_readwrite("present", &X86Segment::present, "P.")
      .def_readwrite("code_or_data", &X86Segment::code_or_data, "S: clear for a system segment.")
      .def_readwrite("long_mode", &X86Segment::long_mode, "L: 64-bit code.")
      .def_readwrite("db", &X86Segment::db, "D/B: 32-bit operands.")
      .def_readwrite("granularity", &X86Segment::granularity, "G.")
      .def_readwrite("available", &X86Segment::available, "AVL: for software.")
      .def_readwrite("unusable", &X86Segment::unusable, "A null selector was loaded.")
      .def("__repr__", &repr_segment);
  py::class_<X86DescriptorTable>(module, "X86DescriptorTable", "GDTR or IDTR.")
      .def(py::init<>())
      .def_readwrite("base", &X86DescriptorTable::base, "Linear address.")
      .def_readwrite("limit", &X86DescriptorTable::limit, "Size in bytes, minus 1.")
      .def("__repr__", &repr_table);
}

void bind_sregs(py::module_& module) {
  py::class_<X86SpecialRegs>(module, "X86SpecialRegs",
                             "Segment, table and control registers. A copy: assign it to ``vcpu.sregs``.")
      .def(py::init<>())
      .def_readwrite("cs", &X86SpecialRegs::cs)
      .def_readwrite("ds", &X86SpecialRegs::ds)
      .def_readwrite("es", &X86SpecialRegs::es)
      .def_readwrite("fs", &X86SpecialRegs::fs)
      .def_readwrite("gs", &X86SpecialRegs::gs)
      .def_readwrite("ss", &X86SpecialRegs::ss)
      .def_readwrite("tr", &X86SpecialRegs::tr)
      .def_readwrite("ldt", &X86SpecialRegs::ldt)
      .def_readwrite("gdt", &X86SpecialRegs::gdt)
      .def_readwrite("idt", &X86SpecialRegs::idt)
      .def_readwrite("cr0", &X86SpecialRegs::cr0)
      .def_readwrite("cr2", &X86SpecialRegs::cr2)
      .def_readwrite("cr3", &X86SpecialRegs::cr3)
      .def_readwrite("cr4", &X86SpecialRegs::cr4)
      .def_readwrite("cr8", &X86SpecialRegs::cr8)
      .def_readwrite("efer", &X86SpecialRegs::efer)
      .def_readwrite("apic_base", &X86SpecialRegs::apic_base)
      .def("__repr__", &repr_sregs);
}

}  // namespace

void bind_x86_registers(py::module_& module) {
  bind_regs(module);
  bind_segments(module);
  bind_sregs(module);
}

void add_x86_registers(VcpuType& type) {
  using WithoutGil = py::call_guard<py::gil_scoped_release>;
  type.def_property("regs", py::cpp_function([](Vcpu& self) { return self.x86()->regs(); }, WithoutGil()),
                    py::cpp_function([](Vcpu& self, const X86Regs& regs) { self.x86()->set_regs(regs); }, WithoutGil()),
                    "General registers (X86Regs): reading gives a copy, assigning writes them.")
      .def_property(
          "sregs", py::cpp_function([](Vcpu& self) { return self.x86()->sregs(); }, WithoutGil()),
          py::cpp_function([](Vcpu& self, const X86SpecialRegs& sregs) { self.x86()->set_sregs(sregs); }, WithoutGil()),
          "Segment, table and control registers (X86SpecialRegs): reading gives a copy, assigning writes them.");
}
