#pragma once
/// \file
/// The first level of one thread, before a TLB that threads share.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "vm/mem/tlb/flush.hpp"
#include "vm/mem/tlb/probe.hpp"

namespace vm::mem::tlb::detail {

/// Set-associative, for all page sizes, round robin replacement. One thread at a time may use it; others may call
/// `for_each`, which is why the words are atomic (all accesses are relaxed, and cost nothing).
class PrivateLevel {
 public:
  /// `entries` is a multiple of `ways`. \throws std::bad_alloc
  PrivateLevel(std::uint32_t entries, std::uint32_t ways);

  bool find(std::uint64_t vaddr, Context context, PackedEntry& entry) const noexcept {
    for (std::uint64_t sizes = sizes_; sizes != 0; sizes &= sizes - 1) {
      const unsigned size = lowest_bit(sizes);
      const Word* set = words_.get() + set_of(vaddr >> size) * set_words_;
      const std::uint64_t tag = tag_of(vaddr, size);
      for (unsigned equal = match(set, stride_, tag); equal != 0; equal &= equal - 1) {
        const unsigned way = lowest_bit(equal);
        const std::uint64_t meta = set[2 * stride_ + way].load(std::memory_order_relaxed);
        if (!answers(meta, context)) continue;
        entry.tag = tag;
        entry.frame = set[stride_ + way].load(std::memory_order_relaxed);
        entry.meta = meta;
        return true;
      }
    }
    return false;
  }

  /// Takes in an entry that was looked for and not found. True when another live entry had to go.
  bool fill(const PackedEntry& entry) noexcept;
  /// Drops the entries of that page that answer for a context that this one answers for.
  void drop(const PackedEntry& entry) noexcept;
  /// Drops what `request` covers, and returns how many entries that were.
  std::size_t flush(const FlushRequest& request) noexcept;

  std::size_t capacity() const noexcept { return std::size_t{index_.sets()} * ways_; }
  /// Calls `visit(tag, meta)` for each live entry.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (std::size_t set = 0; set < index_.sets(); ++set) {
      const Word* words = words_.get() + set * set_words_;
      for (unsigned way = 0; way < ways_; ++way) {
        const std::uint64_t tag = words[way].load(std::memory_order_relaxed);
        if (tag != 0) visit(tag, words[2 * stride_ + way].load(std::memory_order_relaxed));
      }
    }
  }

 private:
  struct FreeWords {
    void operator()(Word* words) const noexcept { ::operator delete (words, std::align_val_t{64}); }
  };

  std::uint32_t set_of(std::uint64_t page) const noexcept { return masked_ ? index_.masked(page) : index_(page); }
  std::size_t flush_set(std::uint32_t set, const FlushRequest& request) noexcept;

  // A set: tags, frames and metas of its ways, then the way to replace next and a word that keeps the tags aligned.
  SetIndex index_;
  bool masked_;
  unsigned ways_;
  unsigned stride_;  // ways_, up to a multiple of four; the ways beyond stay empty
  std::size_t set_words_;
  std::uint64_t sizes_ = 0;  // log2 of the page sizes of entries since everything was dropped, one bit each
  std::unique_ptr<Word[], FreeWords> words_;
};

}  // namespace vm::mem::tlb::detail
