#pragma once
/// \file
/// How many objects a pool keeps, for how long, and what became of them.

#include <cstddef>
#include <cstdint>

namespace vm::mem::alloc {

struct PoolLimits {
  /// Made at the start; eviction leaves at least so many in existence.
  std::size_t min = 0;
  /// In existence at once: idle, on loan, or just being made or destroyed.
  std::size_t max = SIZE_MAX;
  /// Idle at once; of more, those that were used least recently are destroyed.
  std::size_t max_idle = SIZE_MAX;
  /// Idle for longer than so many nanoseconds: destroyed by the next acquire, release or evict.
  std::uint64_t max_idle_ns = UINT64_MAX;
};

/// \throws InvalidConfig unless min <= max and max > 0.
void require_valid(const PoolLimits& limits);

/// Counted since the pool was made; the last three are as of now.
struct PoolStats {
  std::uint64_t created = 0;
  std::uint64_t acquired = 0;       ///< loans
  std::uint64_t reused = 0;         ///< loans of an object that existed before
  std::uint64_t refused = 0;        ///< attempts that found max objects on loan; acquire_for may make several
  std::uint64_t evicted_lru = 0;    ///< destroyed because more than max_idle were idle
  std::uint64_t evicted_age = 0;    ///< destroyed because they were idle for longer than max_idle_ns
  std::uint64_t invalid = 0;        ///< destroyed because `validate` said no, or threw
  std::uint64_t failed_resets = 0;  ///< destroyed because `reset` threw, or the clock after it
  std::uint64_t idle = 0;
  std::uint64_t in_use = 0;  ///< on loan
  std::uint64_t peak_in_use = 0;
};

/// Nanoseconds of a clock that only goes forward.
std::uint64_t steady_now_ns() noexcept;

namespace detail {
[[noreturn]] void throw_pool_exhausted(const PoolLimits& limits);
}

}  // namespace vm::mem::alloc
