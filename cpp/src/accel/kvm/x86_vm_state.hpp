#pragma once
/// \file
/// What a VM keeps for all its vCPUs, through KVM's requests.

#include "vm/accel/hypervisor/x86_vm_state.hpp"

namespace vm::accel::kvm {

class KvmX86VmState final : public X86VmState {
 public:
  /// `fd` is the VM's descriptor; it outlives this object.
  explicit KvmX86VmState(int fd) noexcept : fd_(fd) {}

  VmClock clock() override;
  void set_clock(const VmClock& clock) override;
  std::uint32_t tsc_khz() override;
  void set_tsc_khz(std::uint32_t khz) override;
  void set_pmu_event_filter(const PmuEventFilter& filter) override;

  /// Switches on that pending exceptions and triple faults show in full among a vCPU's events, where the kernel can.
  bool enable_exception_payload() noexcept;
  bool enable_triple_fault_event() noexcept;

 private:
  int capability(unsigned number) const noexcept;
  bool enable(unsigned number) noexcept;

  const int fd_;
};

}  // namespace vm::accel::kvm
