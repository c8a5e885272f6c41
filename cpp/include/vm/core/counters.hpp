#pragma once
/// \file
/// Named event counters that many threads raise without meeting each other. Every thread writes its own cache lines, so
/// an increment is a plain load, add and store; a snapshot sums the lines of all threads, also of those that are gone.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace vm {

namespace detail {

class CounterState;

/// Two 64-byte lines, because the L2 prefetchers of x86 processors fetch lines in pairs.
inline constexpr std::size_t counter_padding = 128;
inline constexpr std::size_t counters_per_block = counter_padding / sizeof(std::uint64_t);

struct alignas(counter_padding) CounterBlock {
  std::array<std::atomic<std::uint64_t>, counters_per_block> cells{};
};

[[noreturn]] void throw_counter_index(std::size_t index, std::size_t count);

}  // namespace detail

/// The values of a `CounterSet` at one moment. Snapshots of sets with the same names add up.
class CounterSnapshot {
 public:
  CounterSnapshot() = default;
  /// \throws InvalidConfig unless there is one value for each name.
  CounterSnapshot(std::vector<std::string> names, std::vector<std::uint64_t> values);

  const std::vector<std::string>& names() const noexcept { return names_; }
  const std::vector<std::uint64_t>& values() const noexcept { return values_; }
  /// \throws InvalidConfig when no counter is called `name`; the message lists those that exist.
  std::uint64_t value(std::string_view name) const;

  /// Both modulo 2^64. \throws InvalidConfig when the names differ; `-=` also when a counter would become negative,
  /// because then `other` is not the earlier snapshot.
  CounterSnapshot& operator+=(const CounterSnapshot& other);
  CounterSnapshot& operator-=(const CounterSnapshot& other);
  friend CounterSnapshot operator+(CounterSnapshot a, const CounterSnapshot& b) { return a += b; }
  friend CounterSnapshot operator-(CounterSnapshot a, const CounterSnapshot& b) { return a -= b; }
  friend bool operator==(const CounterSnapshot& a, const CounterSnapshot& b) {
    return a.names_ == b.names_ && a.values_ == b.values_;
  }
  friend bool operator!=(const CounterSnapshot& a, const CounterSnapshot& b) { return !(a == b); }

 private:
  void require_same_names(const CounterSnapshot& other) const;

  std::vector<std::string> names_;
  std::vector<std::uint64_t> values_;
};

/// One slot of a `CounterSet`, for a hot loop: keep it for as long as the thread works. Used by one thread at a time.
/// When it goes, its counts stay in the set. It may outlive the set.
class CounterWriter {
 public:
  CounterWriter(CounterWriter&& other) noexcept;
  CounterWriter& operator=(CounterWriter&& other) noexcept;
  CounterWriter(const CounterWriter&) = delete;
  CounterWriter& operator=(const CounterWriter&) = delete;
  ~CounterWriter();

  /// Raises counter `index` (its place in the set's names) by `n`. \throws OutOfRange for an index beyond the set, and
  /// on a writer that was moved from.
  void add(std::size_t index, std::uint64_t n = 1) {
    if (index >= count_) detail::throw_counter_index(index, count_);
    std::atomic<std::uint64_t>& cell =
        blocks_[index / detail::counters_per_block].cells[index % detail::counters_per_block];
    // Relaxed, and no read-modify-write: nobody else writes this cell, and a count publishes no other data.
    cell.store(cell.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }

 private:
  friend class CounterSet;
  explicit CounterWriter(std::shared_ptr<detail::CounterState> state);
  void release() noexcept;

  std::shared_ptr<detail::CounterState> state_;
  detail::CounterBlock* blocks_ = nullptr;
  std::size_t count_ = 0;
};

/// A fixed list of named counters. All members may be called from any thread at the same time.
/// Copies refer to the same counters.
class CounterSet {
 public:
  /// \throws InvalidConfig when `names` is empty or holds an empty name or the same name twice.
  explicit CounterSet(std::vector<std::string> names);

  const std::vector<std::string>& names() const noexcept;
  std::size_t size() const noexcept { return names().size(); }
  /// \throws InvalidConfig when no counter is called `name`; the message lists those that exist.
  std::size_t index(std::string_view name) const;

  /// Raises a counter in the calling thread's own slot, which is made on the thread's first call and given back when
  /// the thread ends. \throws OutOfRange for an index beyond the set.
  void add(std::size_t index, std::uint64_t n = 1) const;

  /// A slot of its own, cheaper than `add` because nothing has to be looked up.
  CounterWriter writer() const;

  /// Every increment that happened before the call is in it, exactly once; one that happens meanwhile may be.
  CounterSnapshot snapshot() const;

 private:
  std::shared_ptr<detail::CounterState> state_;
};

}  // namespace vm
