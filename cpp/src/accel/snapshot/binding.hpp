#pragma once
/// \file
/// What ties a VM to the snapshot that its memory is compared with.

#include <memory>
#include <vector>

#include "vm/accel/hypervisor/dirty_log.hpp"
#include "vm/accel/hypervisor/vcpu.hpp"
#include "vm/accel/snapshot/snapshot.hpp"

namespace vm::accel {

class Snapshot::Binding final : public Baseline {
 public:
  Binding(std::weak_ptr<const Snapshot> snapshot, const std::vector<std::shared_ptr<Vcpu>>& vcpus)
      : snapshot_(std::move(snapshot)), vcpus_(vcpus.begin(), vcpus.end()) {}

  /// By owner, because another snapshot may be made where this one was.
  bool is_of(const std::weak_ptr<const Snapshot>& snapshot) const noexcept {
    return !snapshot_.owner_before(snapshot) && !snapshot.owner_before(snapshot_);
  }
  const std::vector<std::weak_ptr<Vcpu>>& vcpus() const noexcept { return vcpus_; }

  /// Has the writes to all slots that the guest can write noted.
  static void watch_all(Vm& vm) {
    for (const MemorySlot& slot : vm.slots()) {
      if (!slot.flags.read_only && !slot.flags.log_dirty) vm.set_flags(slot.base, {false, true});
    }
  }

 private:
  const std::weak_ptr<const Snapshot> snapshot_;
  const std::vector<std::weak_ptr<Vcpu>> vcpus_;
};

}  // namespace vm::accel
