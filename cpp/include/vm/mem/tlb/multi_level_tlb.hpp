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

namespace detail {

/// Where a MultiLevelTlb looks first. The invariant: `pages[n]`, unless `none`, is the page in the live way `ways[n]`.
struct Predictions {
  /// Four for each entry of a first level of 256: with random page numbers about one entry in five then shares its
  /// prediction with another. Their number is a constant and they are a part of the TLB, which spares a hit two loads.
  static constexpr std::size_t count = 1024;
  static constexpr unsigned shift = 12;
  static constexpr std::uint64_t none = UINT64_MAX;  // no page has this number

  Predictions() noexcept {
    pages.fill(none);
    ways.fill(&nothing);
  }

  static std::size_t place(std::uint64_t vaddr) noexcept { return vaddr >> shift & (count - 1); }
  bool is_page(std::uint64_t vaddr) const noexcept { return pages[place(vaddr)] == vaddr >> shift; }
  Way* way(std::uint64_t vaddr) const noexcept { return ways[place(vaddr)]; }
  void forget(const Way& way) noexcept {
    std::uint64_t& page = pages[place(way.vaddr())];
    if (page == way.vaddr() >> shift) page = none;
  }

  std::array<std::uint64_t, count> pages;
  std::array<Way*, count> ways;
  Way nothing;
};

}  // namespace detail

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
/// A first-level hit is answered by a table of predictions, one for each low part of a page number: which way to look
/// at, and of which page of the usual size that way is. The page is taken back when the way loses it, so for pages of
/// that size one compare says that the prediction is right, and another that the way answered the same context last.
/// Everything else is compared with the way itself, so that a stale prediction costs time and never an answer.
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
    Found found{predictions_.way(vaddr), 0, false};
    if (!predictions_.is_page(vaddr) || found.way->asked != context_word(context)) {
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

  Found find_slowly(std::uint64_t vaddr, std::uint32_t context, std::uint64_t now) noexcept;
  template <bool with_facts>
  std::size_t lookup_batch(const std::uint64_t* vaddr, std::size_t count, std::uint32_t context, std::uint64_t* paddr,
                           PackedHit* facts) noexcept;
  void predict(std::uint64_t vaddr, Way& way) noexcept;
  Way* promote(std::size_t from, Way* way, std::uint64_t now) noexcept;
  void use_prefetched(Way& way) noexcept;
  Way* fill_inclusive(std::size_t end, const Way& entry, std::uint64_t now) noexcept;
  Way* fill_exclusive(const Way& entry, std::uint64_t now) noexcept;
  void left(std::size_t level, const Way& way) noexcept;
  std::size_t next_level(std::size_t from, unsigned size_log2) const noexcept;
  bool overtaken(const Way& entry, FillTicket ticket) const noexcept;

  static constexpr std::size_t flush_log_size = 64;

  std::uint64_t clock_ = 0;  // look-ups and insertions
  detail::Predictions predictions_;
  std::vector<Level> levels_;
  Inclusion inclusion_;
  std::uint64_t insertions_ = 0;
  std::uint64_t rejected_fills_ = 0;
  PrefetchStats prefetch_;
  std::uint64_t generation_ = 0;  // flushes so far; flush n is flush_log_[n % flush_log_size]
  std::array<FlushRequest, flush_log_size> flush_log_;
};

}  // namespace vm::mem::tlb
