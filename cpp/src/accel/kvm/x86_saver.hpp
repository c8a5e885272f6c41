#pragma once
/// \file
/// Saving and restoring x86 vCPUs and VMs through KVM, with as few requests as possible: each costs 0.5 to 5 us, more
/// than what it carries.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "vm/accel/hypervisor/saved_state.hpp"
#include "x86_saved.hpp"

namespace vm::accel::kvm {

class KvmVcpu;
class KvmVm;

class KvmX86VcpuSaver final : public VcpuSaver {
 public:
  /// `vcpu` outlives this object.
  explicit KvmX86VcpuSaver(KvmVcpu& vcpu) noexcept : vcpu_(vcpu) {}

  std::shared_ptr<const SavedState> save() override;
  void prepare(const std::shared_ptr<const SavedState>& state) override;
  void restore() override;

 private:
  std::vector<kvm_msr_entry> read_msrs() const;
  void check_clock(std::uint32_t khz) const;
  bool restore_by_entering();
  void restore_one_by_one();
  void write_msrs();
  void drop_msr(std::size_t index);

  KvmVcpu& vcpu_;
  std::shared_ptr<const SavedX86Vcpu> state_;
  std::vector<std::byte> msrs_;  // a kvm_msrs with those of state_ that can be set
};

class KvmX86VmSaver final : public VmSaver {
 public:
  /// `vm` outlives this object.
  explicit KvmX86VmSaver(const KvmVm& vm) noexcept : vm_(vm) {}

  std::shared_ptr<const SavedState> save(const std::vector<std::shared_ptr<const SavedState>>& vcpus) override;
  void prepare(const SavedState& state) override;
  void restore(const SavedState& state) override;
  std::shared_ptr<const SavedState> read_vm(const std::vector<std::byte>& bytes) override;
  std::shared_ptr<const SavedState> read_vcpu(const std::vector<std::byte>& bytes) override;

 private:
  std::vector<kvm_irqchip> read_irqchips() const;
  void check_features(const std::vector<FeatureWord>& needs) const;
  void prepare_devices(const SavedX86Vm& state) const;

  const KvmVm& vm_;
};

}  // namespace vm::accel::kvm
