#pragma once
/// \file
/// A hierarchy of set-associative levels for one thread at a time.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "vm/mem/tlb/array.hpp"
#include "vm/mem/tlb/config.hpp"
#include "vm/mem/tlb/tlb.hpp"

namespace vm::mem::tlb {

/// L1, L2, ... as the configuration's `levels`, or its sizes and ways, say.
///
/// Inclusive: a fill goes into every level that takes the page's size; what leaves a level leaves the earlier ones too;
/// a hit in a later level is copied to the earlier ones. Exclusive: a fill goes into the first level that takes the
/// size; what has to make room there moves to the next one that takes its size, and a hit moves back up.
///
/// An entry that `insert` overwrites because it is of the same page and context counts as evicted, and so does one that
/// leaves an inclusive level because a later level lost it. Hence, for every level, at any time:
/// fills == evictions + flushed + promoted + live entries. A page in two sizes at once is the caller's mistake, as on
/// real processors: either entry may answer until a flush.
///
/// A first-level hit is answered by a table of predictions, one for each low part of a page number: a prediction is
/// only where to look, the entry itself is compared, so a stale one costs time and never an answer. So that one compare
/// is enough, recent contexts have numbers, and an entry is marked with the number of the context that used it last.
/// Recency is the time of the last use, written into the entry: one store, and true LRU and tree-PLRU follow from it.
///
/// Not thread-safe: one thread at a time, also for `stats` and `size`.
class MultiLevelTlb final : public Tlb {
 public:
  /// Throws InvalidConfig as `validate` does. `config.strategy` and the flush policy are not looked at.
  explicit MultiLevelTlb(const TlbConfig& config);
  MultiLevelTlb(const MultiLevelTlb&) = delete;
  MultiLevelTlb& operator=(const MultiLevelTlb&) = delete;
  ~MultiLevelTlb() override;

  /// `lookup` without the virtual call, for callers that know the type.
  bool find(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
    const std::uint64_t now = ++clock_;
    Found found{*prediction(vaddr), 0, false};
    if (context_word(context) != current_.context || !found.way->hits(vaddr, current_.mark)) {
      found = find_slowly(vaddr, context_word(context), now);
      if (found.way == nullptr) return false;
    }
    found.way->used = now;
    const PackedHit facts = found.way->facts;
    hit.paddr = found.way->translate(vaddr);
    hit.rights = rights_of(facts);
    hit.usable = usable_of(facts);
    hit.size_log2 = static_cast<std::uint8_t>(size_log2_of(facts));
    hit.level = static_cast<std::int8_t>(level_of(facts));
    hit.global = is_global(facts);
    hit.prefetched = found.prefetched;
    hit.tlb_level = found.level;
    return true;
  }

  /// The physical address of a missing element of a batch: no memory can be there.
  static constexpr std::uint64_t no_address = UINT64_MAX;

  /// `find` for `count` addresses, in order. `paddr[i]` is the physical address or `no_address`; `facts[i]`, unless
  /// `facts` is nullptr, is 0 for a miss. Returns how many hit.
  std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, Context context, std::uint64_t* paddr,
                     PackedHit* facts = nullptr) noexcept;

  bool lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept override { return find(vaddr, context, hit); }
  bool contains(std::uint64_t vaddr, Context context) const noexcept override;
  FillTicket begin_fill() const noexcept override { return {generation_}; }
  /// Also false, without counting as rejected, when no level takes pages of the entry's size. Flushes since the ticket
  /// are remembered one by one, the last 64 of them; a ticket older than that is refused.
  bool insert(const Entry& entry, FillTicket ticket) noexcept override;
  void flush(const FlushRequest& request) noexcept override;
  TlbStats stats() const override;
  std::size_t size() const noexcept override;
  std::size_t capacity() const noexcept override;

  std::size_t level_count() const noexcept { return levels_.size(); }
  /// The live entries of one level, `level` < `level_count()`, in no particular order.
  std::vector<Entry> entries(std::size_t level) const;

 private:
  // Small enough for two registers: a hit that went through memory would cost its callers more than the look-up.
  struct Found {
    Way* way;  // in the level where it is now; nullptr for a miss
    std::uint8_t level;
    bool prefetched;
  };
  struct Marked {
    std::uint32_t context = 0;
    std::uint64_t mark = 0;  // 0: none
  };
  struct Level {
    std::vector<SetAssociativeArray> arrays;
    std::array<std::uint8_t, 64> array_of;  // by log2 of the page size; `none` when the level does not take it
    LevelStats stats;                       // of level 0, all but hits

    static constexpr std::uint8_t none = 0xFF;
    SetAssociativeArray* array_for(unsigned size_log2) noexcept {
      return array_of[size_log2] == none ? nullptr : &arrays[array_of[size_log2]];
    }
    bool takes(unsigned size_log2) const noexcept { return array_of[size_log2] != none; }
  };

  Way** prediction(std::uint64_t vaddr) noexcept { return &predictions_[vaddr >> 12 & prediction_mask_]; }
  Found find_slowly(std::uint64_t vaddr, std::uint32_t context, std::uint64_t now) noexcept;
  template <bool with_facts>
  std::size_t lookup_batch(const std::uint64_t* vaddr, std::size_t count, std::uint32_t context, std::uint64_t* paddr,
                           PackedHit* facts) noexcept;
  void enter(std::uint32_t context) noexcept;
  Way* promote(std::size_t from, Way* way, std::uint64_t now) noexcept;
  void use_prefetched(Way& way) noexcept;
  Way* fill_inclusive(std::size_t end, const Way& entry, std::uint64_t now) noexcept;
  Way* fill_exclusive(const Way& entry, std::uint64_t now) noexcept;
  void left(std::size_t level, const Way& way) noexcept;
  std::size_t next_level(std::size_t from, unsigned size_log2) const noexcept;
  bool overtaken(const Way& entry, FillTicket ticket) const noexcept;

  static constexpr std::size_t flush_log_size = 64;
  static constexpr std::size_t recent_contexts = 8;

  std::uint64_t clock_ = 0;  // look-ups and insertions
  std::uint64_t prediction_mask_ = 0;
  std::unique_ptr<Way*[]> predictions_;  // ways of level 0, or `nothing_`
  Marked current_;                       // the context of the last look-up
  std::vector<Level> levels_;
  std::array<Marked, recent_contexts> recent_;
  std::uint64_t last_mark_ = 0;
  Inclusion inclusion_;
  Way nothing_;
  std::uint64_t insertions_ = 0;
  std::uint64_t rejected_fills_ = 0;
  PrefetchStats prefetch_;
  std::uint64_t generation_ = 0;  // flushes so far; flush n is flush_log_[n % flush_log_size]
  std::array<FlushRequest, flush_log_size> flush_log_;
};

}  // namespace vm::mem::tlb
