// General, special and debug registers.

#include <algorithm>

#include "abi.hpp"
#include "capability_set.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/error.hpp"
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

X86Regs from_kvm(const kvm_regs& k) noexcept {
  return {k.rax, k.rbx, k.rcx, k.rdx, k.rsi, k.rdi, k.rsp, k.rbp, k.r8,
          k.r9,  k.r10, k.r11, k.r12, k.r13, k.r14, k.r15, k.rip, k.rflags};
}

/// kvm_sregs and kvm_sregs2 begin alike.
template <class KvmSregs>
X86SpecialRegs from_kvm(const KvmSregs& k) noexcept {
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

template <class KvmSregs>
void to_kvm(const X86SpecialRegs& r, KvmSregs& k) noexcept {
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
}

kvm_sregs read_sregs(int fd) {
  kvm_sregs k{};
  checked_ioctl(fd, KVM_GET_SREGS, &k, "KVM_GET_SREGS");
  return k;
}

kvm_sregs2 read_sregs2(int fd) {
  kvm_sregs2 k{};
  checked_ioctl(fd, KVM_GET_SREGS2, &k, "KVM_GET_SREGS2");
  return k;
}

/// CR0.PG and CR4.PAE without EFER.LMA (SDM vol. 3 §4.1.1).
bool has_pae_paging(const kvm_sregs2& k) noexcept {
  return (k.cr0 >> 31 & 1) != 0 && (k.cr4 >> 5 & 1) != 0 && (k.efer >> 10 & 1) == 0;
}

}  // namespace

KvmX86State::KvmX86State(int vcpu, const KvmVm& vm, kvm_run& area) noexcept
    : fd_(vcpu),
      vm_(vm),
      area_(area),
      has_sregs2_(vm.capability(KVM_CAP_SREGS2) > 0),
      offered_(static_cast<std::uint64_t>(std::max(0, vm.capability(KVM_CAP_SYNC_REGS)))) {}

void KvmX86State::about_to_run() noexcept {
  area_.kvm_valid_regs = wanted_;
  wanted_ = 0;
  copies_ = 0;
}

bool KvmX86State::has_copy(std::uint64_t registers) noexcept {
  wanted_ |= registers & offered_;
  return (copies_ & registers) != 0;
}

X86Regs KvmX86State::regs() {
  if (has_copy(KVM_SYNC_X86_REGS)) return from_kvm(area_.s.regs.regs);
  kvm_regs k{};
  checked_ioctl(fd_, KVM_GET_REGS, &k, "KVM_GET_REGS");
  return from_kvm(k);
}

void KvmX86State::set_regs(const X86Regs& r) {
  forget();
  kvm_regs k{r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8,
             r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip, r.rflags};
  checked_ioctl(fd_, KVM_SET_REGS, &k, "KVM_SET_REGS");
}

X86SpecialRegs KvmX86State::sregs() {
  return has_copy(KVM_SYNC_X86_SREGS) ? from_kvm(area_.s.regs.sregs) : from_kvm(read_sregs(fd_));
}

void KvmX86State::set_sregs(const X86SpecialRegs& r) {
  forget();
  if (has_sregs2_) {
    kvm_sregs2 k{};
    to_kvm(r, k);
    checked_ioctl(fd_, KVM_SET_SREGS2, &k, "KVM_SET_SREGS2");
  } else {
    kvm_sregs k = read_sregs(fd_);  // for the interrupt that waits to be injected
    to_kvm(r, k);
    checked_ioctl(fd_, KVM_SET_SREGS, &k, "KVM_SET_SREGS");
  }
  area_.cr8 = r.cr8;  // what the next KVM_RUN loads when the local APIC is not the kernel's
}

std::optional<X86Pdptrs> KvmX86State::pdptrs() {
  if (!has_sregs2_) throw_missing("the page-directory pointers of PAE paging", "KVM_CAP_SREGS2");
  const kvm_sregs2 k = read_sregs2(fd_);
  if ((k.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) == 0) return std::nullopt;
  return X86Pdptrs{k.pdptrs[0], k.pdptrs[1], k.pdptrs[2], k.pdptrs[3]};
}

void KvmX86State::set_pdptrs(const X86Pdptrs& pdptrs) {
  if (!has_sregs2_) throw_missing("the page-directory pointers of PAE paging", "KVM_CAP_SREGS2");
  kvm_sregs2 k = read_sregs2(fd_);
  if (!has_pae_paging(k))
    throw InvalidConfig(
        "the processor holds page-directory pointers with PAE paging only; set CR0.PG and CR4.PAE, and "
        "clear EFER.LME and EFER.LMA");
  forget();
  k.flags |= KVM_SREGS2_FLAGS_PDPTRS_VALID;
  std::copy(pdptrs.begin(), pdptrs.end(), k.pdptrs);
  checked_ioctl(fd_, KVM_SET_SREGS2, &k, "KVM_SET_SREGS2");
}

X86DebugRegs KvmX86State::debug_regs() {
  kvm_debugregs k{};
  checked_ioctl(fd_, KVM_GET_DEBUGREGS, &k, "KVM_GET_DEBUGREGS");
  return {{k.db[0], k.db[1], k.db[2], k.db[3]}, k.dr6, k.dr7};
}

void KvmX86State::set_debug_regs(const X86DebugRegs& r) {
  kvm_debugregs k{};
  std::copy(r.dr.begin(), r.dr.end(), k.db);
  k.dr6 = r.dr6;
  k.dr7 = r.dr7;
  checked_ioctl(fd_, KVM_SET_DEBUGREGS, &k, "KVM_SET_DEBUGREGS (the upper halves of DR6 and DR7 have to be zero)");
}

X86Translation KvmX86State::translate(std::uint64_t vaddr) {
  kvm_translation k{};
  k.linear_address = vaddr;
  checked_ioctl(fd_, KVM_TRANSLATE, &k, "KVM_TRANSLATE");
  return {k.valid != 0, k.physical_address, k.writeable != 0, k.usermode != 0};
}

}  // namespace vm::accel::kvm
