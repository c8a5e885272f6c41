#pragma once
/// \file
/// `Snapshot`: a VM at one moment, to go back to, to keep in a file, and to make more VMs from.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vm/accel/hypervisor/hypervisor.hpp"
#include "vm/accel/hypervisor/saved_state.hpp"
#include "vm/accel/hypervisor/vm.hpp"
#include "vm/accel/snapshot/memory_image.hpp"

namespace vm::accel {

/// A memory slot of the VM, and where its pages are in the image.
struct SnapshotSlot {
  std::uint64_t base = 0;
  std::uint64_t size = 0;  ///< bytes
  bool read_only = false;
  std::string name;
  std::uint64_t image_page = 0;
};

/// A vCPU; the bytes are the backend's.
struct SnapshotVcpu {
  unsigned id = 0;
  std::vector<std::byte> state;
};

/// What a snapshot consists of.
struct SnapshotParts {
  std::string backend;       ///< "kvm"
  std::string architecture;  ///< "x86_64"
  std::vector<SnapshotSlot> slots;
  std::vector<SnapshotVcpu> vcpus;
  std::vector<std::byte> vm_state;
  std::shared_ptr<const MemoryImage> memory;  ///< null when there are no slots
};

/// What a restore did.
struct RestoreResult {
  std::uint64_t pages = 0;  ///< put back
  bool compared = false;    ///< all memory was compared, because nobody knew what had changed
};

/// Which pages a restore looks at.
enum class RestorePages : std::uint8_t {
  changed,  ///< those that the guest wrote and those that were marked (Vm::mark_dirty, Vm::write)
  all,      ///< every page: also finds what this process wrote without saying so
};

/// Immutable; any number of threads may use one at once for different VMs. It holds the guest's memory, the state of
/// all vCPUs (registers, FPU and vector registers, MSRs, CPUID, local APIC, pending events), in-kernel interrupt
/// controllers, PIT and clock. It does not hold devices outside the hypervisor, routes of interrupts, eventfds,
/// breakpoints and filters.
///
/// `take`, `restore`, `fork` and `clone` want all vCPUs of the VM stopped and owned by the calling thread, else they
/// throw AccessViolation or InvalidConfig. The time-stamp counter is set as KVM allows: a write close to the time that
/// KVM expects counts as synchronisation, so a guest can see time go on over quick restores.
class Snapshot : public std::enable_shared_from_this<Snapshot> {
 public:
  /// With `track`, the VM's writable slots are watched from now on (SlotFlags::log_dirty), so that `restore` knows what
  /// changed. Throws InvalidConfig (an exit waits for its answer; slots that overlap in host memory), NotSupported,
  /// ResourceExhausted, PlatformError.
  static std::shared_ptr<Snapshot> take(Vm& vm, bool track = true);
  /// From a file or another program; checked when it is used. Throws InvalidConfig on slots that make no sense.
  explicit Snapshot(SnapshotParts parts);
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  /// Puts the VM back. The first time on a VM that this snapshot does not come from, or after its slots or vCPUs
  /// changed, all memory is compared; later only what changed is copied, and nothing is allocated. Throws InvalidConfig
  /// naming what differs when the VM has other slots, vCPUs, devices or processor features.
  RestoreResult restore(Vm& vm, RestorePages pages = RestorePages::changed) const;

  /// A new VM in this state. Memory is shared with the snapshot and all clones until it is written; vCPUs belong to the
  /// calling thread and live as long as the VM. With `track`, its slots are watched.
  std::shared_ptr<Vm> clone(Hypervisor& hypervisor, bool track = true) const;

  /// Writes a file; what was at `path` is replaced only once the new file is complete. Pages of zeros are left out.
  /// Every byte is covered by a CRC-32C. Throws PlatformError, InvalidConfig; then nothing is left behind.
  void save(const std::string& path) const;
  /// Throws InvalidConfig saying what is wrong at which offset, PlatformError.
  static std::shared_ptr<Snapshot> load(const std::string& path);

  const SnapshotParts& parts() const noexcept { return parts_; }
  /// Bytes of guest memory.
  std::uint64_t memory_size() const noexcept;

 private:
  friend std::shared_ptr<Vm> fork(Vm& vm, bool track);
  class Binding;
  class Copier;

  /// The states of `parts_` as the backend keeps them.
  struct States {
    std::shared_ptr<const SavedState> vm;
    std::vector<std::shared_ptr<const SavedState>> vcpus;
  };

 public:
  /// Only `take` can make the second argument.
  Snapshot(SnapshotParts parts, States states);

 private:
  void check_backend(const Vm& vm) const;
  void check_slots(const Vm& vm) const;
  const States& states(Vm& vm) const;
  /// Prepares the VM's vCPUs, in the order of `parts_.vcpus`, and makes this snapshot its baseline.
  std::shared_ptr<Binding> bind(Vm& vm) const;
  void restore_states(Vm& vm, const Binding& binding) const;
  std::shared_ptr<Vm> fill(std::shared_ptr<Vm> vm, bool track) const;

  const SnapshotParts parts_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<const States> states_;  // guarded by mutex_; made once, when it is needed
};

/// A copy of a VM as it is now; the same as taking a snapshot and cloning it once. For more than one copy, do that: it
/// copies the memory once.
std::shared_ptr<Vm> fork(Vm& vm, bool track = true);

}  // namespace vm::accel
