#pragma once
/// \file
/// Interrupts for one x86 vCPU, through KVM's requests and the area that is shared with the kernel.

#include "abi.hpp"
#include "vm/accel/hypervisor/vcpu_interrupts.hpp"

namespace vm::accel::kvm {

class KvmVm;

class KvmVcpuInterrupts final : public VcpuInterrupts {
 public:
  /// `vm`, the vCPU's descriptor and its area outlive this object.
  KvmVcpuInterrupts(const KvmVm& vm, int vcpu, kvm_run& area) noexcept : vm_(vm), fd_(vcpu), area_(area) {}

  void interrupt(unsigned vector) override;
  bool ready() const override { return area_.ready_for_interrupt_injection != 0; }
  void request_window() override { area_.request_interrupt_window = 1; }
  bool enabled() const override { return area_.if_flag != 0; }
  void nmi() override;
  void smi() override;
  std::uint8_t task_priority() const override { return static_cast<std::uint8_t>(area_.cr8); }
  void set_task_priority(unsigned priority) override;
  std::uint64_t apic_base() const override { return area_.apic_base; }

 private:
  const KvmVm& vm_;
  const int fd_;
  kvm_run& area_;
};

}  // namespace vm::accel::kvm
