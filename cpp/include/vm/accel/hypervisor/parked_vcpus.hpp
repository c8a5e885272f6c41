#pragma once
/// \file
/// vCPUs that were taken out of a running machine and can be put back.

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "vm/accel/hypervisor/backend.hpp"

namespace vm::accel {

/// The parked vCPUs of one VM, by number. Any thread may call anything at once.
class ParkedVcpus {
 public:
  /// Makes room for a vCPU with this number, so that `put` cannot fail.
  void expect(unsigned id);
  /// Keeps `vcpu`, which was expected, or lets go of it when the VM is closed.
  void put(unsigned id, std::unique_ptr<VcpuBackend> vcpu) noexcept;
  /// Null when there is none with this number.
  std::unique_ptr<VcpuBackend> take(unsigned id);
  /// Ascending.
  std::vector<unsigned> ids() const;
  /// Lets go of all, and of those that come later.
  void close() noexcept;

 private:
  mutable std::mutex mutex_;
  std::map<unsigned, std::unique_ptr<VcpuBackend>> vcpus_;  // guarded by mutex_; null: it is not here
  bool closed_ = false;                                     // guarded by mutex_
};

}  // namespace vm::accel
