#pragma once
/// \file
/// One array of a TLB: sets x ways of translations of any page sizes. Not thread-safe.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vm/mem/tlb/config.hpp"
#include "vm/mem/tlb/entry.hpp"
#include "vm/mem/tlb/flush.hpp"
#include "vm/mem/tlb/modulo.hpp"

namespace vm::mem::tlb {

/// The facts of a hit but its address, in 32 bits, so that a batch writes 12 bytes an element. 0 is a miss.
/// Bits 0..5 log2 of the page size, 6..11 rights, 12..17 usable, 18..20 level of the tables, 21 global, 22 prefetched
/// and not used yet.
using PackedHit = std::uint32_t;
constexpr unsigned size_log2_of(PackedHit hit) noexcept { return hit & 63; }
constexpr Rights rights_of(PackedHit hit) noexcept { return hit >> 6 & 63; }
constexpr Rights usable_of(PackedHit hit) noexcept { return hit >> 12 & 63; }
constexpr int level_of(PackedHit hit) noexcept { return static_cast<int>(hit >> 18 & 7); }
constexpr bool is_global(PackedHit hit) noexcept { return (hit >> 21 & 1) != 0; }
inline constexpr PackedHit packed_hit_prefetched = PackedHit{1} << 22;

/// One way of a set: a PackedEntry rearranged so that the common hit takes few instructions.
struct Way {
  /// The page's first byte; with `reserved` where no hit may be quick: the way is empty, or the entry was prefetched
  /// and its first use is yet to be counted.
  std::uint64_t page = reserved;
  std::uint64_t addend = 0;   ///< physical minus virtual address
  std::uint64_t used = 0;     ///< when it was last filled or hit; survives flushes, as the state of real arrays does
  std::uint32_t context = 0;  ///< ASID in the low half, VMID in the high one
  std::uint32_t asked = 0;    ///< the context that it answered last, for which a hit needs no further thought
  PackedHit facts = 0;        ///< 0: empty

  static constexpr std::uint64_t reserved = 1;
  static constexpr std::uint32_t vmid_mask = 0xFFFF'0000;

  constexpr bool live() const noexcept { return facts != 0; }
  constexpr bool prefetched() const noexcept { return (facts & packed_hit_prefetched) != 0; }
  constexpr bool global() const noexcept { return is_global(facts); }
  constexpr unsigned size_log2() const noexcept { return size_log2_of(facts); }
  constexpr std::uint64_t vaddr() const noexcept { return page & ~page_offset_mask; }
  constexpr std::uint64_t tag() const noexcept { return vaddr() | size_log2(); }
  /// Lets hits of `context` be quick from now on.
  constexpr void answer_quickly(std::uint32_t to) noexcept {
    page = vaddr();
    asked = to;
  }

  /// Whether it answers `address` for `for_context` without further thought.
  constexpr bool hits(std::uint64_t address, std::uint32_t for_context) const noexcept {
    return (address & ~page_offset_mask) >> size_log2() << size_log2() == page && asked == for_context;
  }
  /// Whether it answers for `who`: its own context or, when it is global, any of its VMID.
  constexpr bool answers_context(std::uint32_t who) const noexcept {
    return ((context ^ who) & (global() ? vmid_mask : UINT32_MAX)) == 0;
  }
  constexpr std::uint64_t translate(std::uint64_t address) const noexcept { return address + addend; }
};
static_assert(sizeof(Way) == 40);

constexpr std::uint32_t context_word(Context context) noexcept {
  return static_cast<std::uint32_t>(meta_context(context));
}

constexpr Way way_of(const PackedEntry& p) noexcept {
  const unsigned size = size_of_tag(p.tag);
  Way way;
  way.page = (p.tag & ~page_offset_mask) | ((p.meta & meta_prefetched) != 0 ? Way::reserved : 0);
  way.addend = (p.frame & ~page_offset_mask) - (p.tag & ~page_offset_mask);
  way.context = way.asked = static_cast<std::uint32_t>(p.meta);
  way.facts =
      static_cast<PackedHit>(size | (p.frame & page_offset_mask) << 6 | (p.meta >> meta_level_shift & 31) << 18);
  return way;
}

/// A live way as an entry.
constexpr PackedEntry packed_of(const Way& way) noexcept {
  return {way.tag(), way.translate(way.vaddr()) | (way.facts >> 6 & page_offset_mask),
          way.context | static_cast<std::uint64_t>(way.facts >> 18 & 31) << meta_level_shift};
}

/// Whether `request` covers a live way.
constexpr bool covers(const FlushRequest& request, const Way& way) noexcept {
  return covers(request, way.tag(), way.context | (way.global() ? meta_global : 0));
}

/// Sets x ways. A page's set is its number, counted in pages of its own size, modulo the sets. Look-ups probe only the
/// page sizes that are present.
class SetAssociativeArray {
 public:
  /// `config` is within the ranges that `validate(const TlbConfig&)` checks. `seed` is of random replacement.
  SetAssociativeArray(const ArrayConfig& config, std::uint64_t seed);

  /// The way that answers for `vaddr`, or nullptr. O(sizes present x ways).
  Way* find(std::uint64_t vaddr, std::uint32_t context) noexcept {
    for (std::uint64_t sizes = sizes_; sizes != 0; sizes &= sizes - 1) {
      const unsigned size = lowest_bit(sizes);
      Way* way = find_in_set(sets_(vaddr >> size), tag_of(vaddr, size),
                             [context](const Way& found) { return found.answers_context(context); });
      if (way != nullptr) return way;
    }
    return nullptr;
  }

  /// Whether `find` would find one.
  bool holds(std::uint64_t vaddr, std::uint32_t context) const noexcept {
    return const_cast<SetAssociativeArray*>(this)->find(vaddr, context) != nullptr;  // which changes nothing
  }

  /// The live way that holds the same page for the same context as `like`, or nullptr.
  Way* find_same(const Way& like) noexcept;

  /// Empties every way that would contradict `entry`: the same page for one of the contexts that it answers for.
  /// Calls `removed(const Way&)` for each before it goes.
  template <class Removed>
  void remove_conflicts(const Way& entry, Removed&& removed) noexcept {
    if (counts_[entry.size_log2()] == 0) return;
    find_in_set(sets_(entry.vaddr() >> entry.size_log2()), entry.tag(), [&](Way& way) {
      if (way.answers_context(entry.context) || entry.answers_context(way.context)) take(way, removed);
      return false;
    });
  }

  /// Writes `entry`, with the time `now`, into an empty way of its set or over the one that the replacement policy
  /// picks, and returns where. `now` grows from call to call and is not below any `used`. `evicted` is what was there
  /// before: not live when there was room.
  Way* insert(const Way& entry, std::uint64_t now, Way& evicted) noexcept;

  /// Empties a live way.
  void remove(Way& way) noexcept {
    take(way, [](const Way&) {});
  }

  /// Empties the ways that `request` covers, and calls `removed(const Way&)` for each before it goes. Pages are probed
  /// one by one as long as that touches fewer ways than going through all of them.
  template <class Removed>
  void flush(const FlushRequest& request, Removed&& removed) noexcept {
    if (live_ == 0) return;
    std::uint64_t scan = 0;  // sizes for which going through everything is cheaper
    const bool by_page = request.scope == FlushScope::page || request.scope == FlushScope::range;
    if (by_page && request.size == 0) return;
    const std::uint64_t last = request.size - 1 > UINT64_MAX - request.vaddr ? UINT64_MAX  // by_page only
                                                                             : request.vaddr + (request.size - 1);
    for (std::uint64_t sizes = sizes_; by_page && sizes != 0; sizes &= sizes - 1) {
      const unsigned size = lowest_bit(sizes);
      const std::uint64_t first_page = request.vaddr >> size, last_page = last >> size;
      if (last_page - first_page >= sets_.divisor()) {
        scan |= std::uint64_t{1} << size;
        continue;
      }
      for (std::uint64_t page = first_page; page <= last_page; ++page) {
        Way* set = &ways_storage_[std::size_t{sets_(page)} * ways_];
        for (std::uint32_t w = 0; w < ways_; ++w)
          if (set[w].live() && set[w].size_log2() == size && covers(request, set[w])) take(set[w], removed);
      }
    }
    if (by_page && scan == 0) return;
    for (Way& way : ways_storage_)
      if (way.live() && covers(request, way)) take(way, removed);
  }

  std::size_t size() const noexcept { return live_; }
  std::size_t capacity() const noexcept { return ways_storage_.size(); }
  /// Bit n is set when a page of 2^n bytes is present.
  std::uint64_t sizes_present() const noexcept { return sizes_; }
  /// All ways, set by set; those that are not live mean nothing.
  const std::vector<Way>& contents() const noexcept { return ways_storage_; }

 private:
  static unsigned lowest_bit(std::uint64_t bits) noexcept {
#if defined(__GNUC__)
    return static_cast<unsigned>(__builtin_ctzll(bits));
#else
    unsigned n = 0;
    while ((bits >> n & 1) == 0) ++n;
    return n;
#endif
  }
  /// The first way of `set` with `tag` that `accept(Way&)` takes, or nullptr. Tags are apart from the ways and padded
  /// to groups of four, so that a set of eight is searched in one cache line and without a jump for each way.
  template <class Accept>
  Way* find_in_set(std::uint32_t set, std::uint64_t tag, Accept&& accept) noexcept {
    const std::uint64_t* tags = &tags_[std::size_t{set} * stride_];
    for (std::uint32_t group = 0; group < stride_; group += 4) {
      const std::uint64_t* t = tags + group;
      unsigned equal =
          unsigned{t[0] == tag} | unsigned{t[1] == tag} << 1 | unsigned{t[2] == tag} << 2 | unsigned{t[3] == tag} << 3;
      for (; equal != 0; equal &= equal - 1) {
        Way& way = ways_storage_[std::size_t{set} * ways_ + group + lowest_bit(equal)];
        if (accept(way)) return &way;
      }
    }
    return nullptr;
  }
  std::uint64_t& tag_at(const Way& way) noexcept {
    const auto index = static_cast<std::size_t>(&way - ways_storage_.data());
    return tags_[stride_ == ways_ ? index : index / ways_ * stride_ + index % ways_];
  }
  template <class Removed>
  void take(Way& way, Removed&& removed) noexcept {
    removed(static_cast<const Way&>(way));
    forget_size(way.size_log2());
    tag_at(way) = 0;
    way.page = Way::reserved;
    way.facts = 0;
  }
  void forget_size(unsigned size_log2) noexcept {
    --live_;
    if (--counts_[size_log2] == 0) sizes_ &= ~(std::uint64_t{1} << size_log2);
  }
  std::uint32_t victim(const Way* set) noexcept;
  std::uint32_t plru_victim(const Way* set) const noexcept;

  Modulo sets_;
  std::uint32_t ways_;
  std::uint32_t stride_;  // of the tags: the ways, up to a multiple of four
  Replacement replacement_;
  std::uint64_t random_;
  std::uint64_t sizes_ = 0;
  std::size_t live_ = 0;
  std::uint32_t counts_[64] = {};
  std::vector<Way> ways_storage_;
  std::vector<std::uint64_t> tags_;    // of each way: Way::tag, or 0 when it is empty
  std::vector<std::uint64_t> filled_;  // when each way was written; of FIFO only
};

}  // namespace vm::mem::tlb
