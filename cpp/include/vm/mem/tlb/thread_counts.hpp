#pragma once
/// \file
/// Counts of events as frequent as look-ups, in words that only one thread writes.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "vm/core/counters.hpp"

namespace vm::mem::tlb::detail {

/// One thread's part of the first `N` counters of a set, to which it goes in the end. What a CounterWriter does, with
/// fewer instructions, which show in a look-up.
template <std::size_t N>
class alignas(128) ThreadCounts {
 public:
  explicit ThreadCounts(const CounterSet& set) : set_(set) {}
  ThreadCounts(const ThreadCounts&) = delete;
  ThreadCounts& operator=(const ThreadCounts&) = delete;
  ~ThreadCounts() {
    try {
      for (std::size_t i = 0; i < N; ++i) set_.add(i, value(i));
    } catch (const std::bad_alloc&) {
      // No memory to keep them in.
    }
  }

  void add(std::size_t counter, std::uint64_t n = 1) noexcept {
    // Relaxed, and no read-modify-write: nobody else writes this cell, and a count publishes no other data.
    cells_[counter].store(value(counter) + n, std::memory_order_relaxed);
  }
  std::uint64_t value(std::size_t counter) const noexcept { return cells_[counter].load(std::memory_order_relaxed); }
  void add_to(std::vector<std::uint64_t>& sums) const noexcept {
    for (std::size_t i = 0; i < N; ++i) sums[i] += value(i);
  }

 private:
  std::array<std::atomic<std::uint64_t>, N> cells_{};
  CounterSet set_;
};

}  // namespace vm::mem::tlb::detail
