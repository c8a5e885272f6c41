#pragma once
/// \file
/// The state of an x86 vCPU through KVM's requests.

#include <cstddef>
#include <cstdint>

#include "abi.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"

namespace vm::accel::kvm {

class KvmVm;

class KvmX86State final : public X86State {
 public:
  /// `vcpu` is the vCPU's descriptor, `area` what it shares with the kernel; both and `vm` outlive this object.
  KvmX86State(int vcpu, const KvmVm& vm, kvm_run& area) noexcept;

  /// KVM_RUN follows. Registers that were read after the last exit are asked for at the next one too: the kernel then
  /// leaves them in the shared area (api.rst §4.10, KVM_CAP_SYNC_REGS), which saves a request for each.
  void about_to_run() noexcept;
  /// KVM_RUN returned an exit.
  void ran() noexcept { copies_ = area_.kvm_valid_regs; }
  /// Somebody may have changed registers by a request of its own: what the last exit left is not true any more.
  void forget() noexcept { copies_ = 0; }

  X86Regs regs() override;
  void set_regs(const X86Regs& regs) override;
  X86SpecialRegs sregs() override;
  void set_sregs(const X86SpecialRegs& sregs) override;
  std::optional<X86Pdptrs> pdptrs() override;
  void set_pdptrs(const X86Pdptrs& pdptrs) override;
  X86DebugRegs debug_regs() override;
  void set_debug_regs(const X86DebugRegs& regs) override;
  X86Translation translate(std::uint64_t vaddr) override;

  X86Fpu fpu() override;
  void set_fpu(const X86Fpu& fpu) override;
  X86Xsave xsave() override;
  void set_xsave(const X86Xsave& xsave) override;
  std::vector<X86Xcr> xcrs() override;
  void set_xcrs(const std::vector<X86Xcr>& xcrs) override;

  std::vector<X86Msr> msrs(const std::vector<std::uint32_t>& indices) override;
  void set_msrs(const std::vector<X86Msr>& msrs) override;

  CpuidTable cpuid() override;
  void set_cpuid(const CpuidTable& table) override;

  X86Events events() override;
  void set_events(const X86Events& events) override;
  std::vector<std::uint8_t> nested_state() override;
  void set_nested_state(const std::vector<std::uint8_t>& state) override;

  X86Lapic lapic() override;
  void set_lapic(const X86Lapic& lapic) override;

  std::uint32_t tsc_khz() override;
  void set_tsc_khz(std::uint32_t khz) override;
  void kvmclock_ctrl() override;

 private:
  std::size_t xsave_size() const noexcept;
  /// Whether the area has these registers as they are now.
  bool has_copy(std::uint64_t registers) noexcept;

  const int fd_;
  const KvmVm& vm_;
  kvm_run& area_;
  const bool has_sregs2_;
  const std::uint64_t offered_;  // KVM_SYNC_X86_*: what the kernel can leave in the area
  std::uint64_t wanted_ = 0;     // of these, what was read since the last exit
  std::uint64_t copies_ = 0;     // what is in the area and true
};

}  // namespace vm::accel::kvm
