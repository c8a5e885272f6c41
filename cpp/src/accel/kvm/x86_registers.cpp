// General and special registers.

#include "abi.hpp"
#include "ioctl.hpp"
#include "x86_state.hpp"

namespace vm::accel::kvm {
namespace {

X86Segment from_kvm(const kvm_segment& s) noexcept {
  X86Segment r;
  r.base = s.base;
  r.limit = s.limit;
  r.selector = s.selector;
  r.type = s.type;
  r.dpl = s.dpl;
  r.present = s.present != 0;
  r.code_or_data = s.s != 0;
  r.long_mode = s.l != 0;
  r.db = s.db != 0;
  r.granularity = s.g != 0;
  r.available = s.avl != 0;
  r.unusable = s.unusable != 0;
  return r;
}

kvm_segment to_kvm(const X86Segment& s) noexcept {
  kvm_segment r{};
  r.base = s.base;
  r.limit = s.limit;
  r.selector = s.selector;
  r.type = s.type;
  r.dpl = s.dpl;
  r.present = s.present;
  r.s = s.code_or_data;
  r.l = s.long_mode;
  r.db = s.db;
  r.g = s.granularity;
  r.avl = s.available;
  r.unusable = s.unusable;
  return r;
}

kvm_dtable to_kvm(const X86DescriptorTable& t) noexcept {
  kvm_dtable r{};
  r.base = t.base;
  r.limit = t.limit;
  return r;
}

kvm_sregs read_sregs(int fd) {
  kvm_sregs s{};
  checked_ioctl(fd, KVM_GET_SREGS, &s, "KVM_GET_SREGS");
  return s;
}

}  // namespace

X86Regs KvmX86State::regs() {
  kvm_regs k{};
  checked_ioctl(fd_, KVM_GET_REGS, &k, "KVM_GET_REGS");
  return {k.rax, k.rbx, k.rcx, k.rdx, k.rsi, k.rdi, k.rsp, k.rbp, k.r8,
          k.r9,  k.r10, k.r11, k.r12, k.r13, k.r14, k.r15, k.rip, k.rflags};
}

void KvmX86State::set_regs(const X86Regs& r) {
  kvm_regs k{r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8,
             r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags};
  checked_ioctl(fd_, KVM_SET_REGS, &k, "KVM_SET_REGS");
}

X86SpecialRegs KvmX86State::sregs() {
  const kvm_sregs k = read_sregs(fd_);
  X86SpecialRegs r;
  r.cs = from_kvm(k.cs);
  r.ds = from_kvm(k.ds);
  r.es = from_kvm(k.es);
  r.fs = from_kvm(k.fs);
  r.gs = from_kvm(k.gs);
  r.ss = from_kvm(k.ss);
  r.tr = from_kvm(k.tr);
  r.ldt = from_kvm(k.ldt);
  r.gdt = {k.gdt.base, k.gdt.limit};
  r.idt = {k.idt.base, k.idt.limit};
  r.cr0 = k.cr0;
  r.cr2 = k.cr2;
  r.cr3 = k.cr3;
  r.cr4 = k.cr4;
  r.cr8 = k.cr8;
  r.efer = k.efer;
  r.apic_base = k.apic_base;
  return r;
}

void KvmX86State::set_sregs(const X86SpecialRegs& r) {
  kvm_sregs k = read_sregs(fd_);  // for the interrupt that waits to be injected
  k.cs = to_kvm(r.cs);
  k.ds = to_kvm(r.ds);
  k.es = to_kvm(r.es);
  k.fs = to_kvm(r.fs);
  k.gs = to_kvm(r.gs);
  k.ss = to_kvm(r.ss);
  k.tr = to_kvm(r.tr);
  k.ldt = to_kvm(r.ldt);
  k.gdt = to_kvm(r.gdt);
  k.idt = to_kvm(r.idt);
  k.cr0 = r.cr0;
  k.cr2 = r.cr2;
  k.cr3 = r.cr3;
  k.cr4 = r.cr4;
  k.cr8 = r.cr8;
  k.efer = r.efer;
  k.apic_base = r.apic_base;
  checked_ioctl(fd_, KVM_SET_SREGS, &k, "KVM_SET_SREGS");
}

}  // namespace vm::accel::kvm
