#pragma once
/// \file
/// A private first level for each thread over one TLB that all share. The invariant: what a private level holds was in
/// the shared one when no flush that it has read about was still under way, so what it has not read about it will read.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "vm/core/counters.hpp"
#include "vm/core/per_thread.hpp"
#include "vm/mem/tlb/config.hpp"
#include "vm/mem/tlb/private_level.hpp"
#include "vm/mem/tlb/sharded_tlb.hpp"
#include "vm/mem/tlb/thread_counts.hpp"
#include "vm/mem/tlb/tlb.hpp"

namespace vm::mem::tlb {

namespace detail {

/// What one thread has of a HybridTlb.
class HybridSide {
 public:
  /// The counters of private levels, by their place in the TLB's set.
  struct Counter {
    enum : std::size_t { hits, misses, fills, evictions, flushed, count };
  };
  using Counts = ThreadCounts<Counter::count>;

  /// Flushes that follow each other within so few look-ups make a private level a burden: it then stands aside for a
  /// while, and the shared one, which a flush elsewhere does not disturb, answers alone.
  static constexpr std::uint64_t few_lookups = 64;
  static constexpr unsigned hasty_limit = 2;
  static constexpr std::uint32_t bypass_length = 4096;
  /// So does a level that misses too often: a miss costs several times what a hit saves. It is judged each time that
  /// there were `trial_misses`, and keeps its place with `worthwhile_hits` for each of them.
  static constexpr unsigned trial_misses = 512;
  static constexpr std::uint64_t worthwhile_hits = 4;
  static constexpr std::uint32_t retry_length = 32 * trial_misses;

  HybridSide(const ShardedTlb& shared, const CounterSet& counters, std::uint32_t entries, std::uint32_t ways);

  bool lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
    if (log_->generation() != current_) return lookup_after_news(vaddr, context, hit);
    return lookup_private(vaddr, context, hit) || lookup_shared(true, vaddr, context, hit);
  }
  /// As `ShardedTlb::lookup` of an array.
  std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit, bool* found) noexcept;
  /// After a fill of the shared level: what this thread held of the page may allow less than the new entry.
  void drop(const Entry& entry) noexcept { level_.drop(pack(entry)); }

  const Counts& counts() const noexcept { return counts_; }
  std::size_t capacity() const noexcept { return level_.capacity(); }
  /// Entries that no flush has covered, whether or not this thread has read about it. Any thread may ask.
  std::size_t live() const noexcept;

 private:
  std::uint64_t seen() const noexcept { return seen_.load(std::memory_order_relaxed); }
  bool lookup_private(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
    return level_.find(vaddr, context, [&](unsigned size, std::uint64_t frame, std::uint64_t meta) noexcept {
      counts_.add(Counter::hits);
      set_hit(hit, frame, meta, size, vaddr);
    });
  }
  bool catch_up() noexcept;
  void judge() noexcept;
  void stand_aside(std::uint32_t lookups) noexcept;
  std::size_t lookup_aside(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit,
                           bool* found) noexcept;
  bool lookup_after_news(std::uint64_t vaddr, Context context, Hit& hit) noexcept;
  bool lookup_shared(bool usable, std::uint64_t vaddr, Context context, Hit& hit) noexcept;

  const FlushLog* log_;
  static constexpr std::uint64_t none = UINT64_MAX;
  std::uint64_t current_;            // seen_; none while the level stands aside, so that a look-up compares once
  std::atomic<std::uint64_t> seen_;  // flushes that the level has read about; written by the owner only
  std::uint32_t bypass_ = 0;         // look-ups that have yet to leave the private level out
  bool settled_ = false;             // no flush up to seen_ is under way
  unsigned hasty_ = 0;               // times in a row that there was news within few look-ups
  std::uint64_t lookups_then_ = 0;   // at the last news
  unsigned misses_on_trial_ = 0;     // since the level was last judged
  std::uint64_t hits_then_ = 0;      // when it was
  PrivateLevel level_;
  Counts counts_;
  ShardedTlb::Reader reader_;
};

}  // namespace detail

/// All members may be called concurrently with each other, except the destructor. `insert` fills the shared level; a
/// private level takes from it what its thread looks up. After `flush` returns no thread gets the old entry: each
/// private level compares the shared generation of flushes with the one it knows at every look-up, and goes through
/// what it has missed before it answers. Nobody waits for anybody.
///
/// Level 0 of the statistics is the sum of the private levels, level 1 the shared one. A look-up that leaves a private
/// level out because flushes follow each other too fast, or because it has missed too often, is a miss of level 0.
///
/// Worth its place where each thread has few hot pages: on the machine where it was written (Zen 5)
/// bench_concurrent_mmu finds a hit in 0.79 of a ShardedTlb's time, in arrays 0.85. Where a thread's pages do not fit,
/// a look-up takes 1.6 times as long as there (2.8 times through a `Local` against a `Reader`), in arrays 1.2 times:
/// use a ShardedTlb.
class HybridTlb final : public Tlb {
 public:
  /// Sizes are entries, multiples of the ways. \throws InvalidConfig for another shape. \throws std::bad_alloc
  HybridTlb(std::uint32_t private_entries, std::uint32_t private_ways, std::uint32_t shared_entries,
            std::uint32_t shared_ways);
  /// The shapes in l1_size and l1_ways, l3_size and l3_ways.
  explicit HybridTlb(const TlbConfig& config)
      : HybridTlb(config.l1_size, config.l1_ways, config.l3_size, config.l3_ways) {}
  HybridTlb(const HybridTlb&) = delete;
  HybridTlb& operator=(const HybridTlb&) = delete;
  ~HybridTlb() override;

  /// A private level of its own for a hot loop, which then need not find the one of its thread. Used by one thread at a
  /// time. It may outlive the TLB, but not be used after it.
  class Local {
   public:
    bool lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
      return side_.get()->lookup(vaddr, context, hit);
    }
    /// As `HybridTlb::lookup` of an array.
    std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit, bool* found) noexcept {
      return side_.get()->lookup(vaddr, count, context, hit, found);
    }
    /// As `HybridTlb::insert`. A thread that looks up here also fills here.
    bool insert(const Entry& entry, FillTicket ticket) noexcept;

   private:
    friend class HybridTlb;
    Local(ShardedTlb& shared, vm::detail::SlotHandle<detail::HybridSide> side)
        : shared_(&shared), side_(std::move(side)) {}

    ShardedTlb* shared_;
    vm::detail::SlotHandle<detail::HybridSide> side_;
  };
  /// \throws std::bad_alloc
  Local local();

  /// The first call of a thread makes its private level; without memory for one the shared level answers alone.
  bool lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept override;
  /// `count` look-ups in order: whether they hit in `found`, and then `hit`. Returns how many hit. Each is for itself
  /// what the look-up of one address is; the thread's private level is found once.
  std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit, bool* found) noexcept;
  bool contains(std::uint64_t vaddr, Context context) const noexcept override {
    return shared_.contains(vaddr, context);
  }
  FillTicket begin_fill() const noexcept override { return shared_.begin_fill(); }
  bool insert(const Entry& entry, FillTicket ticket) noexcept override;
  void flush(const FlushRequest& request) noexcept override { shared_.flush(request); }
  const FlushLog& log() const noexcept { return shared_.log(); }

  TlbStats stats() const override;
  std::size_t size() const noexcept override;
  /// Of the shared level and of the private ones that there are now.
  std::size_t capacity() const noexcept override;

 private:
  bool first_lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept;
  std::unique_ptr<detail::HybridSide> make_side() const;

  std::uint32_t private_entries_;
  std::uint32_t private_ways_;
  ShardedTlb shared_;
  CounterSet counters_;
  vm::detail::PerThread<detail::HybridSide> sides_;  // last: they go first
};

}  // namespace vm::mem::tlb
