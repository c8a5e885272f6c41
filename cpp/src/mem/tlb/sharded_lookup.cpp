/// \file
/// The look-ups of a ShardedTlb: what of them is not in its header.

#include "vm/mem/tlb/sharded_tlb.hpp"

namespace vm::mem::tlb {

bool ShardedTlb::take_first_use(Word& meta, std::uint64_t value) noexcept {
  // Relaxed: the flag guards nothing. It fails when another thread was first or the entry has gone.
  return meta.compare_exchange_strong(value, value & ~meta_prefetched, std::memory_order_relaxed);
}

bool ShardedTlb::probe(const Set& set, std::uint64_t tag, Context context, PackedEntry& entry) noexcept {
  for (unsigned attempt = 0; attempt < patience; ++attempt) {
    // The orders are those of find_quickly().
    const std::uint64_t before = set.sequence().load(std::memory_order_acquire);
    for (unsigned equal = detail::match(&set.tag(0), set.stride, tag);; equal &= equal - 1) {
      if (equal == 0) return false;
      const unsigned way = detail::lowest_bit(equal);
      const std::uint64_t meta = set.meta(way).load(std::memory_order_acquire);
      if (!answers(meta, context)) continue;
      const std::uint64_t frame = set.frame(way).load(std::memory_order_acquire);
      if (set.sequence().load(std::memory_order_relaxed) != (before & ~std::uint64_t{1})) break;
      entry = {tag, frame, meta};
      if ((meta & meta_prefetched) != 0 && !take_first_use(set.meta(way), meta)) entry.meta &= ~meta_prefetched;
      return true;
    }
    detail::relax();
  }
  return false;
}

bool ShardedTlb::contains(std::uint64_t vaddr, Context context) const noexcept {
  for (std::uint64_t sizes = sizes_.load(std::memory_order_relaxed); sizes != 0; sizes &= sizes - 1) {
    const unsigned size = detail::lowest_bit(sizes);
    const Set set = set_at(index_(vaddr >> size));
    // Nothing is read that a change could tear: whether the entry is there may change the moment after anyway.
    for (unsigned equal = detail::match(&set.tag(0), set.stride, tag_of(vaddr, size)); equal != 0; equal &= equal - 1)
      if (answers(set.meta(detail::lowest_bit(equal)).load(std::memory_order_acquire), context)) return true;
  }
  return false;
}

bool ShardedTlb::find_patiently(std::uint64_t vaddr, Context context, PackedEntry& entry) const noexcept {
  for (std::uint64_t sizes = sizes_.load(std::memory_order_relaxed); sizes != 0; sizes &= sizes - 1) {
    const unsigned size = detail::lowest_bit(sizes);
    if (probe(set_at(index_(vaddr >> size)), tag_of(vaddr, size), context, entry)) return true;
  }
  return false;
}

bool ShardedTlb::find_patiently(std::uint64_t vaddr, Context context, PackedEntry& entry,
                                ReadCounts& counts) const noexcept {
  const bool found = find_patiently(vaddr, context, entry);
  counts.add(found ? Counter::hits : Counter::misses);
  if (found && (entry.meta & meta_prefetched) != 0) counts.add(Counter::useful);
  return found;
}

VM_TLB_NEVER_INLINE bool ShardedTlb::look_up_patiently(std::uint64_t vaddr, Context context, Hit& hit,
                                                       ReadCounts& counts) const noexcept {
  PackedEntry entry;
  if (!find_patiently(vaddr, context, entry, counts)) return false;
  detail::set_hit(hit, entry, vaddr);
  return true;
}

bool ShardedTlb::lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
  if (ReadCounts* counts = counts_.known()) return look_up(vaddr, context, hit, *counts);
  return first_look_up(vaddr, context, hit);
}

std::size_t ShardedTlb::lookup(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit,
                               bool* found) noexcept {
  ReadCounts* counts = counts_.known();
  if (counts == nullptr) counts = counts_.mine([this] { return std::make_unique<ReadCounts>(counters_); });
  if (counts != nullptr) return look_up(vaddr, count, context, hit, found, *counts);
  std::size_t hits = 0;
  for (std::size_t i = 0; i < count; ++i) {
    found[i] = first_look_up(vaddr[i], context, hit[i]);
    hits += found[i] ? 1 : 0;
  }
  return hits;
}

std::size_t ShardedTlb::look_up(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit, bool* found,
                                ReadCounts& counts) const noexcept {
  std::size_t hits = 0;
  for (std::size_t at = 0; at < count; ++at) {
    // Relaxed: a size that is missed is a miss.
    const detail::ProbeProgress progress =
        kernel_({words_.get(), words_per_set(stride_), index_, stride_, sizes_.load(std::memory_order_relaxed), context,
                 vaddr + at, count - at, hit + at, found + at});
    counts.add(Counter::hits, progress.hits);
    counts.add(Counter::misses, progress.done - progress.hits);
    hits += progress.hits;
    at += progress.done;
    if (at == count) break;
    found[at] = look_up_patiently(vaddr[at], context, hit[at], counts);
    hits += found[at] ? 1 : 0;
  }
  return hits;
}

VM_TLB_NEVER_INLINE bool ShardedTlb::first_look_up(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
  ReadCounts* counts = counts_.mine([this] { return std::make_unique<ReadCounts>(counters_); });
  if (counts != nullptr) return look_up_patiently(vaddr, context, hit, *counts);
  PackedEntry entry;
  if (!find_patiently(vaddr, context, entry)) {
    count(Counter::misses);
    return false;
  }
  count(Counter::hits);
  if ((entry.meta & meta_prefetched) != 0) count(Counter::useful);
  detail::set_hit(hit, entry, vaddr);
  return true;
}

}  // namespace vm::mem::tlb
