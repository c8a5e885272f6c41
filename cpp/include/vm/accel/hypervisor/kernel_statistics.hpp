#pragma once
/// \file
/// What the kernel itself counts about a VM or a vCPU.

#include "vm/mem/pages/unique_fd.hpp"

namespace vm::accel {

/// Implemented by backends.
class KernelStatistics {
 public:
  virtual ~KernelStatistics() = default;

  /// A descriptor of the statistics in the kernel's format (Linux, Documentation/virt/kvm/api.rst §4.133
  /// KVM_GET_STATS_FD): any thread may read it with pread, at any time. It keeps the VM alive in the kernel. Throws
  /// NotSupported naming the capability, ResourceExhausted.
  virtual mem::UniqueFd open() = 0;
};

}  // namespace vm::accel
