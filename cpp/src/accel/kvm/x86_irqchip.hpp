#pragma once
/// \file
/// PIC, IOAPIC and PIT through KVM's requests.

#include <atomic>

#include "vm/accel/hypervisor/x86_irqchip.hpp"

namespace vm::accel::kvm {

class KvmVm;

class KvmX86Irqchip final : public X86Irqchip {
 public:
  /// `vm` owns this object.
  explicit KvmX86Irqchip(const KvmVm& vm) noexcept : vm_(vm) {}

  PicState pic(IrqController controller) override;
  void set_pic(IrqController controller, const PicState& state) override;
  IoapicState ioapic() override;
  void set_ioapic(const IoapicState& state) override;
  void create_pit(bool speaker) override;
  PitState pit() override;
  void set_pit(const PitState& state) override;
  void set_pit_reinjection(bool on) override;
  void set_tss_address(std::uint64_t paddr) override;
  void set_identity_map_address(std::uint64_t paddr) override;
  void set_boot_vcpu(unsigned id) override;

 private:
  void require_kernel_irqchip(const char* what) const;
  void require_pit() const;

  const KvmVm& vm_;
  std::atomic<bool> has_pit_{false};
};

}  // namespace vm::accel::kvm
