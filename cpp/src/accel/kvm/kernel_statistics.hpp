#pragma once
/// \file
/// KVM's binary statistics.

#include "vm/accel/hypervisor/kernel_statistics.hpp"

namespace vm::accel::kvm {

class KvmStatistics final : public KernelStatistics {
 public:
  /// `fd` is the descriptor of a VM or a vCPU, `vm` that of its VM; both outlive this object.
  KvmStatistics(int fd, int vm) noexcept : fd_(fd), vm_(vm) {}

  mem::UniqueFd open() override;

 private:
  const int fd_;
  const int vm_;
};

}  // namespace vm::accel::kvm
