#pragma once
/// \file
/// `Hypervisor`: the way to virtual machines.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vm/accel/hypervisor/backend.hpp"
#include "vm/accel/hypervisor/vm.hpp"

namespace vm::accel {

/// Any thread may call anything at once. Every method but `close` and `closed` throws ClosedError after `close`.
class Hypervisor {
 public:
  /// Throws InvalidConfig for null.
  explicit Hypervisor(std::shared_ptr<HypervisorBackend> backend);
  Hypervisor(const Hypervisor&) = delete;
  Hypervisor& operator=(const Hypervisor&) = delete;
  ~Hypervisor();

  /// "kvm", "scripted".
  std::string name() const;
  Architecture architecture() const;
  /// The most vCPUs that one VM can have.
  unsigned max_vcpus() const;

  std::shared_ptr<Vm> create_vm();

  /// Facets of the backend; they outlive `close`. Throw NotSupported on another architecture, and where the backend
  /// does not offer them.
  std::shared_ptr<X86System> x86() const;
  std::shared_ptr<Capabilities> capabilities() const;

  /// Closes the VMs that were made here, then the hypervisor. Twice is fine.
  void close() noexcept;
  bool closed() const noexcept;

 private:
  std::shared_ptr<HypervisorBackend> backend() const;

  mutable std::mutex mutex_;
  std::shared_ptr<HypervisorBackend> backend_;  // guarded by mutex_; null once closed
  std::vector<std::weak_ptr<Vm>> vms_;          // guarded by mutex_
};

}  // namespace vm::accel
