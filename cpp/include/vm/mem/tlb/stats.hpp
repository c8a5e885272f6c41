#pragma once
/// \file
/// What happened in a TLB, counted where it happened.

#include <cstdint>
#include <vector>

namespace vm::mem::tlb {

/// One level of a hierarchy. A look-up that level 0 misses is a look-up of level 1, and so on.
struct LevelStats {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;
  std::uint64_t fills = 0;      ///< entries written, whether after a walk, from another level, or by a prefetcher
  std::uint64_t evictions = 0;  ///< live entries that had to make room for others
  std::uint64_t flushed = 0;    ///< entries that a flush removed
  std::uint64_t promoted = 0;   ///< entries that a hit moved to an earlier level (exclusive hierarchies)

  std::uint64_t lookups() const noexcept { return hits + misses; }
  /// 0 before the first look-up.
  double hit_rate() const noexcept {
    return lookups() == 0 ? 0.0 : static_cast<double>(hits) / static_cast<double>(lookups());
  }
};

/// A prefetched entry is useful when it is hit before it goes, useless when it goes without.
struct PrefetchStats {
  std::uint64_t fills = 0;
  std::uint64_t useful = 0;
  std::uint64_t useless = 0;
};

struct TlbStats {
  std::vector<LevelStats> levels;
  PrefetchStats prefetch;
  std::uint64_t flushes = 0;         ///< requests carried out
  std::uint64_t rejected_fills = 0;  ///< fills that a flush overtook
};

}  // namespace vm::mem::tlb
