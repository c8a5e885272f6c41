#pragma once
/// \file
/// What a hypervisor keeps about a VM and its vCPUs, beside the guest's memory, as opaque values that can be put back.

#include <cstddef>
#include <memory>
#include <vector>

namespace vm::accel {

/// Immutable; any number of threads. Bound to a kind of machine, not to one VM.
class SavedState {
 public:
  virtual ~SavedState() = default;
  /// For a file; the backend that reads it back knows its own version.
  virtual std::vector<std::byte> bytes() const = 0;
};

/// The state of one vCPU: a facet of its backend, called by its owner while it does not run.
class VcpuSaver {
 public:
  virtual ~VcpuSaver() = default;

  /// Everything that the guest can change, after the last exit was completed. Throws NotSupported for what cannot be
  /// saved, InvalidConfig when the guest is between two accesses of one instruction.
  virtual std::shared_ptr<const SavedState> save() = 0;
  /// Once before `restore` on a vCPU: gives a new vCPU what never changes later (CPUID, clock frequency), or checks
  /// that it is the same. Throws InvalidConfig naming what differs.
  virtual void prepare(const std::shared_ptr<const SavedState>& state) = 0;
  /// Puts everything back, and drops what the last exit left to do. `state` is the one last prepared. Allocates
  /// nothing.
  virtual void restore() = 0;
};

/// The state of a VM beside memory and vCPUs (interrupt controllers, timers, clock): a facet of its backend. Called
/// while no vCPU runs; the caller serializes.
class VmSaver {
 public:
  virtual ~VmSaver() = default;

  /// `vcpus` are the states of all its vCPUs.
  virtual std::shared_ptr<const SavedState> save(const std::vector<std::shared_ptr<const SavedState>>& vcpus) = 0;
  /// Gives a VM without vCPUs the devices in the kernel that `state` wants, or checks that they are there. Throws
  /// InvalidConfig naming what differs: devices, or what the processor lacks that the guest was told it has.
  virtual void prepare(const SavedState& state) = 0;
  virtual void restore(const SavedState& state) = 0;

  /// From `bytes()`. Throw InvalidConfig naming what is wrong.
  virtual std::shared_ptr<const SavedState> read_vm(const std::vector<std::byte>& bytes) = 0;
  virtual std::shared_ptr<const SavedState> read_vcpu(const std::vector<std::byte>& bytes) = 0;
};

}  // namespace vm::accel
