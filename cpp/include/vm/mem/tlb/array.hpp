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
/// Bits 0..5 rights, 6..11 usable, 12..17 log2 of the page size, 18..20 level of the tables, 21 global.
using PackedHit = std::uint32_t;
constexpr Rights rights_of(PackedHit hit) noexcept { return hit & 63; }
constexpr Rights usable_of(PackedHit hit) noexcept { return hit >> 6 & 63; }
constexpr unsigned size_log2_of(PackedHit hit) noexcept { return hit >> 12 & 63; }
constexpr int level_of(PackedHit hit) noexcept { return static_cast<int>(hit >> 18 & 7); }
constexpr bool is_global(PackedHit hit) noexcept { return (hit >> 21 & 1) != 0; }

/// One way of a set: a PackedEntry rearranged so that a hit takes two compares and one addition, and two ways share a
/// cache line.
///
/// tag     bits 12..63 of the page's first address; bits 0..5 size_log2, 6..8 level, 9 global
/// owner   bits 0..15 ASID, 16..31 VMID, 32 empty, 33 prefetched and not used yet; equal to a context's word only when
///         a hit for that context needs no further thought
/// addend  bits 12..63 of physical minus virtual address; bits 0..5 rights, 6..11 usable
/// used    the clock when it was last filled or hit; stays when a way is emptied, as the state of real arrays does
struct Way {
  std::uint64_t tag = 0;
  std::uint64_t owner = std::uint64_t{1} << 32;
  std::uint64_t addend = 0;
  std::uint64_t used = 0;

  static constexpr std::uint64_t empty_bit = std::uint64_t{1} << 32;
  static constexpr std::uint64_t prefetched_bit = std::uint64_t{1} << 33;
  static constexpr std::uint64_t global_bit = 1 << 9;
  /// What tells pages apart: the address and the size.
  static constexpr std::uint64_t page_mask = ~std::uint64_t{0xFC0};

  constexpr bool live() const noexcept { return (owner & empty_bit) == 0; }
  constexpr bool prefetched() const noexcept { return (owner & prefetched_bit) != 0; }
  constexpr bool global() const noexcept { return (tag & global_bit) != 0; }
  constexpr unsigned size_log2() const noexcept { return size_of_tag(tag); }
  constexpr std::uint64_t page() const noexcept { return tag & page_mask; }
  /// Whether the page contains `vaddr`; an empty way may say so too.
  constexpr bool contains(std::uint64_t vaddr) const noexcept { return (vaddr ^ tag) >> size_log2() == 0; }
  /// Whether it is live and answers for the context whose word is `context`.
  constexpr bool answers_for(std::uint64_t context) const noexcept {
    const std::uint64_t care = global() ? 0xFFFF'0000 | empty_bit : 0xFFFF'FFFF | empty_bit;
    return ((owner ^ context) & care) == 0;
  }
  constexpr std::uint64_t translate(std::uint64_t vaddr) const noexcept { return vaddr + (addend & ~page_offset_mask); }
  constexpr PackedHit facts() const noexcept {
    return static_cast<PackedHit>((addend & page_offset_mask) | (tag & 0x3FF) << 12);
  }
};
static_assert(sizeof(Way) == 32);

constexpr Way way_of(const PackedEntry& p) noexcept {
  const std::uint64_t address = p.tag & ~page_offset_mask;
  Way way;
  way.tag = p.tag | (p.meta >> meta_level_shift & 7) << 6 | ((p.meta & meta_global) != 0 ? Way::global_bit : 0);
  way.owner = (p.meta & 0xFFFF'FFFF) | ((p.meta & meta_prefetched) != 0 ? Way::prefetched_bit : 0);
  way.addend = ((p.frame & ~page_offset_mask) - address) | (p.frame & page_offset_mask);
  return way;
}

constexpr PackedEntry packed_of(const Way& way) noexcept {
  return {way.page(),
          (way.translate(way.tag & ~page_offset_mask)) | (way.addend & page_offset_mask),
          (way.owner & 0xFFFF'FFFF) | (way.tag >> 6 & 7) << meta_level_shift | (way.global() ? meta_global : 0) |
              (way.prefetched() ? meta_prefetched : 0)};
}

/// Whether `request` covers a live way.
constexpr bool covers(const FlushRequest& request, const Way& way) noexcept {
  return covers(request, way.page(), (way.owner & 0xFFFF'FFFF) | (way.global() ? meta_global : 0));
}

/// Sets x ways. A page's set is its number, counted in pages of its own size, modulo the sets. Look-ups probe only the
/// page sizes that are present.
class SetAssociativeArray {
 public:
  /// `config` is within the ranges that `validate(const TlbConfig&)` checks. `seed` is of random replacement.
  SetAssociativeArray(const ArrayConfig& config, std::uint64_t seed);

  /// The way that answers for `vaddr`, or nullptr. O(sizes present x ways). `context` is `meta_context`'s word.
  Way* find(std::uint64_t vaddr, std::uint64_t context) noexcept {
    for (std::uint64_t sizes = sizes_; sizes != 0; sizes &= sizes - 1) {
      const std::uint64_t page = tag_of(vaddr, lowest_bit(sizes));
      Way* set = set_of(page);
      for (std::uint32_t w = 0; w < ways_; ++w)
        if (set[w].page() == page && set[w].answers_for(context)) return &set[w];
    }
    return nullptr;
  }

  /// The live way that holds the same page for the same context as `like`, or nullptr.
  Way* find_same(const Way& like) noexcept;

  /// Empties every way that would contradict `entry`: the same page for one of the contexts that it answers for.
  /// Calls `removed(const Way&)` for each before it goes.
  template <class Removed>
  void remove_conflicts(const Way& entry, Removed&& removed) noexcept {
    if (counts_[entry.size_log2()] == 0) return;
    Way* set = set_of(entry.page());
    for (std::uint32_t w = 0; w < ways_; ++w)
      if (set[w].page() == entry.page() && set[w].live() &&
          (set[w].answers_for(entry.owner & 0xFFFF'FFFF) || entry.answers_for(set[w].owner & 0xFFFF'FFFF)))
        take(set[w], removed);
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
        Way* set = set_of(tag_of(page << size, size));
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
  Way* set_of(std::uint64_t page) noexcept {
    return ways_storage_.data() + std::size_t{sets_(page >> size_of_tag(page))} * ways_;
  }
  template <class Removed>
  void take(Way& way, Removed&& removed) noexcept {
    removed(static_cast<const Way&>(way));
    forget_size(way.size_log2());
    way.owner = Way::empty_bit;
  }
  void forget_size(unsigned size_log2) noexcept {
    --live_;
    if (--counts_[size_log2] == 0) sizes_ &= ~(std::uint64_t{1} << size_log2);
  }
  std::uint32_t victim(const Way* set) noexcept;
  std::uint32_t plru_victim(const Way* set) const noexcept;

  Modulo sets_;
  std::uint32_t ways_;
  Replacement replacement_;
  std::uint64_t random_;
  std::uint64_t sizes_ = 0;
  std::size_t live_ = 0;
  std::uint32_t counts_[64] = {};
  std::vector<Way> ways_storage_;
  std::vector<std::uint64_t> filled_;  // when each way was written; of FIFO only
};

}  // namespace vm::mem::tlb
