#pragma once
/// \file
/// The state of a scripted x86 vCPU, kept in memory.

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "vm.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"

namespace vm::accel::scripted {

class ScriptedX86State final : public X86State {
 public:
  /// After a reset (Intel SDM vol. 3, table 9-1). `vm` lives as long as this object.
  ScriptedX86State(const ScriptedVm& vm, unsigned vcpu);

  X86Regs regs() override { return regs_; }
  void set_regs(const X86Regs& regs) override;
  X86SpecialRegs sregs() override { return sregs_; }
  void set_sregs(const X86SpecialRegs& sregs) override;
  std::optional<X86Pdptrs> pdptrs() override;
  void set_pdptrs(const X86Pdptrs& pdptrs) override;
  X86DebugRegs debug_regs() override { return debug_regs_; }
  void set_debug_regs(const X86DebugRegs& regs) override;
  X86Translation translate(std::uint64_t vaddr) override;

  X86Fpu fpu() override { return xsave_.legacy(); }
  void set_fpu(const X86Fpu& fpu) override;
  X86Xsave xsave() override { return xsave_; }
  void set_xsave(const X86Xsave& xsave) override;
  std::vector<X86Xcr> xcrs() override { return xcrs_; }
  void set_xcrs(const std::vector<X86Xcr>& xcrs) override;

  /// Any number is a register; those that nobody wrote are 0.
  std::vector<X86Msr> msrs(const std::vector<std::uint32_t>& indices) override;
  void set_msrs(const std::vector<X86Msr>& msrs) override;

  CpuidTable cpuid() override { return cpuid_; }
  void set_cpuid(const CpuidTable& table) override;
  X86Events events() override { return events_; }
  void set_events(const X86Events& events) override;

  X86Lapic lapic() override;
  void set_lapic(const X86Lapic& lapic) override;
  std::uint32_t tsc_khz() override { return tsc_khz_; }
  void set_tsc_khz(std::uint32_t khz) override;
  void kvmclock_ctrl() override;
  std::vector<std::uint8_t> nested_state() override;
  void set_nested_state(const std::vector<std::uint8_t>& state) override;

  /// For the steps of the script, which are the guest.
  X86Regs& guest_regs() noexcept { return regs_; }
  X86SpecialRegs& guest_sregs() noexcept { return sregs_; }

 private:
  bool pae_paging() const noexcept;
  /// The MSR that is a part of the special registers, or nullptr.
  std::uint64_t* part_of_sregs(std::uint32_t msr) noexcept;
  void write_down(CallValue value, CallKind kind = CallKind::set_state) const;

  const ScriptedVm& vm_;
  const unsigned vcpu_;
  X86Regs regs_;
  X86SpecialRegs sregs_;
  X86Pdptrs pdptrs_{};
  X86DebugRegs debug_regs_;
  X86Xsave xsave_{std::vector<std::uint8_t>(X86Xsave::smallest)};
  std::vector<X86Xcr> xcrs_{{0, 1}};  // x87 is always on
  std::map<std::uint32_t, std::uint64_t> msrs_;
  CpuidTable cpuid_;
  X86Events events_;
  std::uint32_t tsc_khz_ = 1'000'000;
};

}  // namespace vm::accel::scripted
