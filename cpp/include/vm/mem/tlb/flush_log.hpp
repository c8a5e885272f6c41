#pragma once
/// \file
/// Who flushed what, and since when. The invariant: a flush is in the log before it touches any entry. Whoever writes
/// an entry and then finds the log as it was knows that a flush which covers the entry has yet to look for it.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "vm/mem/tlb/flush.hpp"

namespace vm::mem::tlb {

/// Flush requests numbered from 1; the last `capacity` of them can be read. All members may be called concurrently.
class FlushLog {
 public:
  /// How many requests a reader may fall behind before it has to assume the worst: more than fit into a page-table
  /// walk, and few enough (8 KiB) to stay in the L1 cache of one that reads them all.
  static constexpr std::size_t capacity = 256;

  /// Requests that have begun; the number of the youngest.
  std::uint64_t generation() const noexcept {
    // seq_cst: a writer that has locked a set and reads an old generation precedes, in the single order of these
    // operations, the flush that will then find that set locked or changed.
    return begun_.load(std::memory_order_seq_cst);
  }

  /// Enters a request, before any entry is touched.
  void begin(const FlushRequest& request) noexcept;
  /// To be called when a request that began has been carried out. A full barrier: what the flush wrote is visible to
  /// every later read of any processor.
  void complete() noexcept { completed_.fetch_add(1, std::memory_order_seq_cst); }
  /// Requests carried out.
  std::uint64_t completed() const noexcept { return completed_.load(std::memory_order_acquire); }

  /// Whether every request up to `generation` has been carried out and none has begun since.
  bool settled_at(std::uint64_t generation) const noexcept {
    // The completed ones first: with requests that begin in between, the two numbers differ. Acquire pairs with
    // complete(), so that a reader sees the sets as those flushes left them.
    const std::uint64_t done = completed_.load(std::memory_order_acquire);
    return done == generation && begun_.load(std::memory_order_acquire) == generation;
  }

  /// Request number `generation`; false when it has been overwritten.
  bool read(std::uint64_t generation, FlushRequest& request) const noexcept;

  /// Whether a request in (after, upto] covers the entry, or may have: one that cannot be read any more counts.
  bool covered(std::uint64_t after, std::uint64_t upto, std::uint64_t tag, std::uint64_t meta) const noexcept {
    return after != upto && search(after, upto, tag, meta);
  }

 private:
  /// Valid while `number` says so; the other words are read between two looks at it.
  struct Record {
    std::atomic<std::uint64_t> number{0};
    std::atomic<std::uint64_t> what{0};  // scope, ASID, VMID: 16 bits each from bit 0
    std::atomic<std::uint64_t> vaddr{0};
    std::atomic<std::uint64_t> size{0};
  };

  bool search(std::uint64_t after, std::uint64_t upto, std::uint64_t tag, std::uint64_t meta) const noexcept;

  // Apart, because every look-up of a private level reads the first and every flush writes the others.
  alignas(128) std::atomic<std::uint64_t> begun_{0};
  alignas(128) std::atomic<std::uint64_t> completed_{0};
  std::mutex mutex_;  // one writer of the ring at a time
  alignas(128) std::array<Record, capacity> ring_;
};

}  // namespace vm::mem::tlb
