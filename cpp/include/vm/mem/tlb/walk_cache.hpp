#pragma once
/// \file
/// A page-walk cache: where the tables of a walk are, so that the next walk near by begins further down. What Intel
/// calls paging-structure caches (SDM vol. 3 §4.10.3) and Arm intermediate walk caches.

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "vm/core/counters.hpp"
#include "vm/mem/tlb/flush.hpp"

namespace vm::mem::tlb {

/// Levels of tables below the top one that a walk can begin at: level 0 holds pages, level 1 what x86 calls PDEs.
inline constexpr int walk_cache_levels = 4;

struct WalkCacheConfig {
  /// By the level of the cached table: how many; 0 switches the level off. Rounded up to powers of two. Level 0 is
  /// what x86 calls the PDE cache, then PDPTE, PML4E, PML5E. The defaults are a software choice, not a model of any
  /// processor: vendors publish no sizes.
  std::array<std::uint32_t, walk_cache_levels> entries{1024, 64, 16, 4};

  static constexpr WalkCacheConfig off() noexcept { return {{0, 0, 0, 0}}; }
};

/// A table below the top one, and what the tables above it leave of the rights.
struct CachedTable {
  std::uint64_t table = 0;
  std::uint32_t allowances = 0;
  int level = 0;
};

struct WalkCacheStats {
  struct Level {
    std::uint64_t hits = 0;  ///< walks that began at this level
    std::uint64_t fills = 0;
    std::uint64_t evictions = 0;
  };
  std::array<Level, walk_cache_levels> levels;
  std::uint64_t misses = 0;  ///< walks that began at the root
};

/// Direct-mapped, one array per level, tagged with ASID and VMID: look-up, fill and replacement are O(1). Any number of
/// threads may call anything at once; a reader that meets a writer in its slot misses.
class WalkCache {
 public:
  /// `span_log2[n]` is log2 of the bytes of virtual addresses that one table of level n translates. Throws
  /// InvalidConfig for more than 2^20 entries in a level.
  WalkCache(const WalkCacheConfig& config, const std::array<unsigned, walk_cache_levels>& span_log2);

  /// Forgets everything, and from now on caches the tables of another format. Must be alone.
  void reshape(const std::array<unsigned, walk_cache_levels>& span_log2) noexcept;

  /// To be taken before the page tables are read, as `Tlb::begin_fill`.
  std::uint64_t begin_fill() const noexcept { return generation_.load(std::memory_order_acquire); }

  /// The lowest cached table on the way to `vaddr`.
  std::optional<CachedTable> lookup(std::uint64_t vaddr, Context context) const noexcept;
  /// Caches the table that translates `vaddr` at `table.level`, unless a flush has begun since `ticket` was taken.
  void insert(std::uint64_t vaddr, Context context, const CachedTable& table, std::uint64_t ticket) noexcept;
  /// When it returns, no later look-up on any thread answers from what `request` covers: for a page or range every
  /// table on the way to it, for the wider scopes every table of the context. There are no global tables. To flush
  /// everything takes no longer than to flush a page.
  void flush(const FlushRequest& request) noexcept;

  WalkCacheStats stats() const;

 private:
  /// Words of a sequence lock: odd while somebody writes. An empty slot has an empty tag.
  struct alignas(32) Slot {
    std::atomic<std::uint32_t> sequence{0};
    std::atomic<std::uint32_t> context{0};
    std::atomic<std::uint64_t> tag{0};  ///< the span's number + 1
    std::atomic<std::uint64_t> table{0};
    std::atomic<std::uint32_t> allowances{0};
    std::atomic<std::uint32_t> epoch{0};  ///< of the cache when it was filled
  };
  static_assert(sizeof(Slot) == 32);
  struct Level {
    std::unique_ptr<Slot[]> slots;
    std::uint64_t mask = 0;
    unsigned span_log2 = 0;

    Slot& slot(std::uint64_t vaddr, std::uint32_t context) const noexcept;
  };

  template <class Change>
  static void change(Slot& slot, Change&& change) noexcept;
  static void flush_level(const Level& level, const FlushRequest& request) noexcept;

  std::array<Level, walk_cache_levels> levels_;
  std::atomic<std::uint64_t> generation_{0};  ///< flushes that have begun
  std::atomic<std::uint32_t> epoch_{0};       ///< flushes of everything; what was filled in an earlier one is not there
  CounterSet counters_;
};

}  // namespace vm::mem::tlb
