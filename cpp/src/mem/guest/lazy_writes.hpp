#pragma once
/// \file
/// Which pages of lazy memory were written, synchronously or asynchronously. The invariant: once `start` returned, a
/// page is protected from the moment it exists until its first write was noted.

#include <atomic>
#include <cstdint>
#include <shared_mutex>
#include <vector>

#include "mem/guest/lazy_userfault.hpp"

namespace vm::mem {

/// Any number of threads may call anything at once.
class WriteTracker {
 public:
  /// `size` bytes of pages of `step` bytes.
  WriteTracker(Userfault& userfault, std::uint64_t size, std::uint64_t step);

  void start();
  void stop();
  /// See LazyMemory::dirty and reset_dirty.
  std::vector<std::uint64_t> dirty(bool reset);

  /// Holds off `start` and `stop` while pages are made; `protect` says how to make them.
  class Making {
   public:
    explicit Making(const WriteTracker& tracker) : lock_(tracker.mutex_), protect_(tracker.active_) {}
    bool protect() const noexcept { return protect_; }

   private:
    std::shared_lock<std::shared_mutex> lock_;
    bool protect_;
  };

  /// A writer waits at `offset`: notes the page and lets the writer go on.
  void note(std::uint64_t offset);
  /// The pages of a range are gone.
  void forget(std::uint64_t offset, std::uint64_t size);

 private:
  Userfault& userfault_;
  std::uint64_t size_;
  std::uint64_t step_;
  mutable std::shared_mutex mutex_;
  bool active_ = false;        // guarded by mutex_
  bool registered_ = false;    // guarded by mutex_
  std::vector<bool> written_;  // guarded by mutex_; one per page, synchronous tracking only
};

}  // namespace vm::mem
