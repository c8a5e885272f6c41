#pragma once
/// \file
/// guest_memfds of a VM of KVM, and the slots over them.

#include <memory>
#include <mutex>
#include <vector>

#include "vm/accel/hypervisor/guest_memfds.hpp"
#include "vm/accel/hypervisor/memory_slot.hpp"

namespace vm::accel::kvm {

class KvmVm;

class KvmGuestMemfds final : public GuestMemfds {
 public:
  /// `vm` owns this object.
  explicit KvmGuestMemfds(const KvmVm& vm) noexcept : vm_(vm) {}

  std::shared_ptr<mem::GuestMemory> create(std::uint64_t size, std::uint64_t base) override;
  bool has_private() const noexcept override;
  void set_private(std::uint64_t paddr, std::uint64_t size, bool is_private) override;

  /// Whether the slot's memory was made by `create`.
  bool holds(const MemorySlot& slot) const;
  /// Throws NotSupported for flags that KVM has not for such a slot, else what checked_ioctl throws.
  void add_slot(const MemorySlot& slot) const;

 private:
  const KvmVm& vm_;
  mutable std::mutex mutex_;
  std::vector<std::weak_ptr<mem::HostMapping>> mappings_;  // guarded by mutex_
};

}  // namespace vm::accel::kvm
