#pragma once
/// \file
/// The first level of one thread, before a TLB that threads share.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "vm/mem/tlb/flush.hpp"
#include "vm/mem/tlb/probe.hpp"

namespace vm::mem::tlb::detail {

/// Set-associative, for all page sizes, round robin replacement. One thread at a time may use it; others may call
/// `for_each`, which is why the words are atomic (all accesses are relaxed, and cost nothing).
///
/// Of the ways of its set each page has one that is its own: the slot where it would be if the level were direct
/// mapped. A fill goes there, and what was there moves to another way. So a page that does not compete for its slot is
/// found with one comparison, and one that does is still found (a pseudo-associative cache: Agarwal and Pudar,
/// "Column-associative caches", ISCA 1993, without the swap at a hit).
class PrivateLevel {
 public:
  /// `entries` is a multiple of `ways`. \throws std::bad_alloc
  PrivateLevel(std::uint32_t entries, std::uint32_t ways);

  /// Calls `on_hit(size, frame, meta)` with the entry, unless there is none.
  template <class OnHit>
  VM_TLB_ALWAYS_INLINE inline bool find(std::uint64_t vaddr, Context context, OnHit&& on_hit) const noexcept {
    if ((sizes_ & usual_size_bit) != 0 && find_size(vaddr, usual_size, context, on_hit)) return true;
    for (std::uint64_t sizes = sizes_ & ~usual_size_bit; sizes != 0; sizes &= sizes - 1)
      if (find_size(vaddr, lowest_bit(sizes), context, on_hit)) return true;
    return false;
  }

  /// Takes in an entry that was looked for and not found. True when another live entry had to go.
  bool fill(const PackedEntry& entry) noexcept;
  /// Drops the entries of that page that answer for a context that this one answers for.
  void drop(const PackedEntry& entry) noexcept;
  /// Drops what `request` covers, and returns how many entries that were.
  std::size_t flush(const FlushRequest& request) noexcept;

  std::size_t capacity() const noexcept { return slots_.size(); }
  /// Calls `visit(tag, meta)` for each live entry.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const Slot& slot : slots_) {
      const std::uint64_t tag = slot.tag.load(std::memory_order_relaxed);
      if (tag != 0) visit(tag, slot.meta.load(std::memory_order_relaxed));
    }
  }

 private:
  struct alignas(32) Slot {  // two to a cache line, none across two
    Word tag{0};
    Word frame{0};
    Word meta{0};

    bool holds(std::uint64_t wanted, Context context) const noexcept {
      return tag.load(std::memory_order_relaxed) == wanted &&
             answers_quickly(meta.load(std::memory_order_relaxed), context);
    }
    bool live() const noexcept { return tag.load(std::memory_order_relaxed) != 0; }
    void clear() noexcept { tag.store(0, std::memory_order_relaxed); }
    void write(const PackedEntry& entry) noexcept {
      tag.store(entry.tag, std::memory_order_relaxed);
      frame.store(entry.frame, std::memory_order_relaxed);
      meta.store(entry.meta, std::memory_order_relaxed);
    }
    PackedEntry read() const noexcept {
      return {tag.load(std::memory_order_relaxed), frame.load(std::memory_order_relaxed),
              meta.load(std::memory_order_relaxed)};
    }
  };

  std::uint32_t own_slot(std::uint64_t page) const noexcept { return masked_ ? slot_of_.masked(page) : slot_of_(page); }
  template <class OnHit>
  VM_TLB_ALWAYS_INLINE inline bool find_size(std::uint64_t vaddr, unsigned size, Context context,
                                             OnHit&& on_hit) const noexcept {
    const std::uint64_t page = vaddr >> size;
    const std::uint64_t tag = tag_of(vaddr, size);
    const Slot* slot = &slots_[own_slot(page)];
    if (!slot->holds(tag, context)) {
      slot = find_elsewhere(page, tag, context);
      if (slot == nullptr) return false;
    }
    on_hit(size, slot->frame.load(std::memory_order_relaxed), slot->meta.load(std::memory_order_relaxed));
    return true;
  }
  const Slot* find_elsewhere(std::uint64_t page, std::uint64_t tag, Context context) const noexcept;
  std::size_t flush_set(std::uint32_t set, const FlushRequest& request) noexcept;

  // Way w of set s is slot w * sets + s. The sets divide the slots, so the set of a page's own slot is the page's set.
  SetIndex set_of_;
  SetIndex slot_of_;
  bool masked_;
  std::uint64_t sizes_ = 0;  // log2 of the page sizes of entries since everything was dropped, one bit each
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> next_;  // of each set: the slot to replace next
};

}  // namespace vm::mem::tlb::detail
