#pragma once
/// \file
/// The regions of a memory for those who ask a hundred million times a second.

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "vm/mem/guest/memory.hpp"

namespace vm::mem {

/// Keeps every region table that it has handed out until it is destroyed itself, so that `get` needs no lock and writes
/// no shared line. The price: host memory stays mapped as long, also after `GuestMemory::close`.
class RegionPin {
 public:
  /// Throws InvalidConfig for null, ClosedError.
  explicit RegionPin(std::shared_ptr<const GuestMemory> memory);

  /// The current regions; valid as long as this object. Any number of threads. Throws ClosedError once the memory is
  /// closed.
  const RegionTable& get() const {
    const Pinned* pinned = current_.load(std::memory_order_acquire);
    return pinned->generation == memory_->generation() ? *pinned->table : renew();
  }

 private:
  struct Pinned {
    std::uint64_t generation;
    std::shared_ptr<const RegionTable> table;
  };

  const RegionTable& renew() const;

  std::shared_ptr<const GuestMemory> memory_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<const Pinned>> all_;  // guarded by mutex_
  mutable std::atomic<const Pinned*> current_{nullptr};
};

}  // namespace vm::mem
