#include "x86_state.hpp"

namespace vm::accel::scripted {
namespace {

X86Segment segment_after_reset(std::uint8_t type, bool code_or_data) {
  X86Segment segment;
  segment.limit = 0xFFFF;
  segment.type = type;
  segment.present = true;
  segment.code_or_data = code_or_data;
  return segment;
}

X86SpecialRegs sregs_after_reset(bool boots) {
  X86SpecialRegs r;
  r.cs = segment_after_reset(0xB, true);
  r.cs.selector = 0xF000;
  r.cs.base = 0xFFFF0000;
  r.ds = r.es = r.fs = r.gs = r.ss = segment_after_reset(0x3, true);
  r.tr = segment_after_reset(0xB, false);
  r.ldt = segment_after_reset(0x2, false);
  r.gdt.limit = r.idt.limit = 0xFFFF;
  r.cr0 = 0x60000010;
  r.apic_base = boots ? 0xFEE00900 : 0xFEE00800;  // §11.4.4: bit 8 tells which one boots
  return r;
}

X86Regs regs_after_reset() {
  X86Regs r;
  r.rip = 0xFFF0;
  return r;
}

}  // namespace

ScriptedX86State::ScriptedX86State(Stage& stage, unsigned vm, unsigned vcpu)
    : stage_(stage), vm_(vm), vcpu_(vcpu), regs_(regs_after_reset()), sregs_(sregs_after_reset(vcpu == 0)) {}

void ScriptedX86State::set_regs(const X86Regs& regs) {
  stage_.take({CallKind::set_regs, vm_, vcpu_, 0, regs});
  regs_ = regs;
}

void ScriptedX86State::set_sregs(const X86SpecialRegs& sregs) {
  stage_.take({CallKind::set_sregs, vm_, vcpu_, 0, sregs});
  sregs_ = sregs;
}

}  // namespace vm::accel::scripted
