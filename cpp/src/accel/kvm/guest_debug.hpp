#pragma once
/// \file
/// KVM_SET_GUEST_DEBUG of an x86 vCPU.

#include "vm/accel/hypervisor/guest_debug.hpp"

namespace vm::accel::kvm {

class KvmGuestDebug final : public GuestDebug {
 public:
  /// `vcpu` is the vCPU's descriptor; it outlives this object. `features`: what KVM_CAP_SET_GUEST_DEBUG2 answers, the
  /// control flags that the kernel knows, 0 where it does not tell.
  KvmGuestDebug(int vcpu, int features) noexcept : fd_(vcpu), features_(features) {}

  void set(const GuestDebugSettings& settings) override;
  const GuestDebugSettings& settings() const noexcept override { return settings_; }
  bool can_block_interrupts() const noexcept override;
  void inject_breakpoint() override;
  void inject_debug(std::uint64_t dr6) override;

 private:
  void apply(const GuestDebugSettings& settings, unsigned extra) const;

  const int fd_;
  const int features_;
  GuestDebugSettings settings_;
};

}  // namespace vm::accel::kvm
