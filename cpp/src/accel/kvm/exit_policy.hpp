#pragma once
/// \file
/// What KVM leaves to user space.

#include "vm/accel/hypervisor/exit_policy.hpp"

namespace vm::accel::kvm {

class KvmVm;

class KvmExitPolicy final : public ExitPolicy {
 public:
  /// `vm` owns this object.
  explicit KvmExitPolicy(const KvmVm& vm) noexcept : vm_(vm) {}

  void set_msr_exits(MsrExits exits) override;
  void set_msr_filter(const MsrFilter& filter) override;
  void set_hypercall_exits(const std::set<unsigned>& numbers) override;
  std::set<unsigned> possible_hypercall_exits() const override;
  void disable_exits(FreeRein what) override;

 private:
  const KvmVm& vm_;
};

}  // namespace vm::accel::kvm
