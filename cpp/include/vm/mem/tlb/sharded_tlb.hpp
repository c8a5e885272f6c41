#pragma once
/// \file
/// A TLB that many threads read and fill at once. The invariant that everything rests on: a set's words change only
/// while its sequence is odd, and each change leaves the sequence higher than before.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "vm/core/per_thread.hpp"
#include "vm/mem/tlb/config.hpp"
#include "vm/mem/tlb/flush_log.hpp"
#include "vm/mem/tlb/probe.hpp"
#include "vm/mem/tlb/probe_kernel.hpp"
#include "vm/mem/tlb/thread_counts.hpp"
#include "vm/mem/tlb/tlb.hpp"

namespace vm::mem::tlb {

namespace detail {
/// The counters of a ShardedTlb, by their place in its set; those of look-ups come first.
struct ShardedCounter {
  enum : std::size_t { hits, misses, useful, fills, evictions, flushed, prefetch_fills, useless, rejected_fills };
};
using ReadCounts = ThreadCounts<ShardedCounter::useful + 1>;
}  // namespace detail

/// Set-associative, for all page sizes. All members may be called concurrently with each other, except the destructor.
///
/// A look-up takes no lock and writes no memory that other threads use, but for the one that first uses a prefetched
/// entry. It reads a set between two looks at the set's sequence (a seqlock: Boehm, "Can seqlocks get along with
/// programming language memory models?", MSPC 2012). It is wait-free: when a writer is in the way for longer than
/// `patience` tries, perhaps because it was preempted there, the look-up misses, which a cache may always do.
///
/// Since look-ups leave no trace, replacement is round robin within the set, over empty ways first.
class ShardedTlb final : public Tlb {
  using Counter = detail::ShardedCounter;
  using ReadCounts = detail::ReadCounts;

 public:
  /// Tries of a look-up at one set; between two of them it waits some tens of cycles, and a writer needs about a
  /// hundred.
  static constexpr unsigned patience = 64;
  static constexpr std::uint32_t max_ways = most_concurrent_ways;

  /// `entries` is a multiple of `ways`; the number of sets may be any. Memory is 32 bytes per entry with 4 ways.
  /// \throws InvalidConfig for another shape. \throws std::bad_alloc
  ShardedTlb(std::uint32_t entries, std::uint32_t ways) : ShardedTlb(entries, ways, detail::best_probe_kernel()) {}
  /// Looks arrays up with `kernel`: for those who compare kernels.
  ShardedTlb(std::uint32_t entries, std::uint32_t ways, detail::ProbeKernel kernel);
  /// The shape in l3_size and l3_ways.
  explicit ShardedTlb(const TlbConfig& config) : ShardedTlb(config.l3_size, config.l3_ways) {}
  ShardedTlb(const ShardedTlb&) = delete;
  ShardedTlb& operator=(const ShardedTlb&) = delete;
  ~ShardedTlb() override;

  /// For a hot loop: looks up without first finding the calling thread's counters. Used by one thread at a time. It may
  /// outlive the TLB, but not be used after it.
  class Reader {
   public:
    /// The entry as it is kept. Its prefetched flag says that this was the first use.
    bool find(std::uint64_t vaddr, Context context, PackedEntry& entry) noexcept {
      return tlb_->find(vaddr, context, entry, *counts_.get());
    }
    /// As `Tlb::lookup`.
    bool lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
      return tlb_->look_up(vaddr, context, hit, *counts_.get());
    }
    /// As `ShardedTlb::lookup` of an array.
    std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit, bool* found) noexcept {
      return tlb_->look_up(vaddr, count, context, hit, found, *counts_.get());
    }

   private:
    friend class ShardedTlb;
    Reader(const ShardedTlb& tlb, vm::detail::SlotHandle<ReadCounts> counts) : tlb_(&tlb), counts_(std::move(counts)) {}

    const ShardedTlb* tlb_;
    vm::detail::SlotHandle<ReadCounts> counts_;
  };
  /// \throws std::bad_alloc
  Reader reader() const { return {*this, counts_.handle(std::make_unique<ReadCounts>(counters_))}; }

  /// The first call of a thread allocates its counters; without memory for them the look-ups are not counted.
  bool lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept override;
  /// `count` look-ups in order: whether they hit in `found`, and then `hit`. Returns how many hit. Each is for itself
  /// what the look-up of one address is.
  std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit, bool* found) noexcept;
  bool contains(std::uint64_t vaddr, Context context) const noexcept override;
  FillTicket begin_fill() const noexcept override { return {log_.generation()}; }
  /// `entry.size_log2` is in [12, 63].
  bool insert(const Entry& entry, FillTicket ticket) noexcept override;
  /// A page, or a range of fewer pages than there are sets, visits the sets where such pages can be; the other scopes
  /// visit all. A set without a covered entry is not written.
  void flush(const FlushRequest& request) noexcept override;

  TlbStats stats() const override;
  std::size_t size() const noexcept override;
  std::size_t capacity() const noexcept override { return std::size_t{index_.sets()} * ways_; }

  const FlushLog& log() const noexcept { return log_; }

 private:
  using Word = detail::Word;
  enum class Quick : std::uint8_t { hit, miss, unsure };

  // A set is 4 + 3 * stride words, on a boundary of 128 bytes: the sequence, the way to replace next, two unused, and
  // for each way a tag, a frame and a meta. With 4 ways that is exactly 128 bytes; the tags share the first line with
  // the sequence.
  static constexpr std::size_t alignment = 128;
  static constexpr std::size_t header_words = detail::set_header_words;
  // Above what PackedEntry uses, a stored meta holds the sequence it was written at, so that a reader that clears
  // the prefetched flag by compare-exchange cannot mistake a later entry for the one it has read.
  static constexpr unsigned stamp_shift = 37;

  struct Set {
    Word* words;
    unsigned stride;

    Word& sequence() const noexcept { return words[0]; }
    Word& next() const noexcept { return words[1]; }
    Word& tag(unsigned way) const noexcept { return words[header_words + way]; }
    Word& frame(unsigned way) const noexcept { return words[header_words + stride + way]; }
    Word& meta(unsigned way) const noexcept { return words[header_words + 2 * stride + way]; }
  };
  static constexpr std::size_t words_per_set(unsigned stride) noexcept {
    return (header_words + 3 * stride + alignment / 8 - 1) / (alignment / 8) * (alignment / 8);
  }
  static_assert(header_words + 3 * 4 == detail::usual_set_words && detail::usual_set_words * 8 == alignment);
  struct FreeWords {
    void operator()(Word* words) const noexcept { ::operator delete (words, std::align_val_t{alignment}); }
  };

  class Lock;

  Set set_at(std::uint32_t index) const noexcept { return {words_.get() + index * words_per_set(stride_), stride_}; }
  bool find(std::uint64_t vaddr, Context context, PackedEntry& entry, ReadCounts& counts) const noexcept;
  bool look_up(std::uint64_t vaddr, Context context, Hit& hit, ReadCounts& counts) const noexcept;
  std::size_t look_up(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit, bool* found,
                      ReadCounts& counts) const noexcept;
  bool look_up_patiently(std::uint64_t vaddr, Context context, Hit& hit, ReadCounts& counts) const noexcept;
  bool first_look_up(std::uint64_t vaddr, Context context, Hit& hit) noexcept;
  template <class OnHit>
  Quick find_quickly(std::uint64_t vaddr, Context context, OnHit&& on_hit) const noexcept;
  template <class OnHit>
  Quick probe_quickly(std::uint64_t vaddr, unsigned size, Context context, OnHit&& on_hit) const noexcept;
  bool find_patiently(std::uint64_t vaddr, Context context, PackedEntry& entry) const noexcept;
  bool find_patiently(std::uint64_t vaddr, Context context, PackedEntry& entry, ReadCounts& counts) const noexcept;
  static bool probe(const Set& set, std::uint64_t tag, Context context, PackedEntry& entry) noexcept;
  static bool take_first_use(Word& meta, std::uint64_t value) noexcept;

  void announce(std::uint64_t size_bit) noexcept;
  void write(const Lock& lock, const PackedEntry& entry) noexcept;
  void replace(const Lock& lock, unsigned way, const PackedEntry& entry) noexcept;
  void clean(const Set& set, const FlushRequest& request) noexcept;
  void clean_pages(const FlushRequest& request) noexcept;
  void clean_all(const FlushRequest& request) noexcept;
  void count(std::size_t counter, std::uint64_t n = 1) const noexcept;

  detail::SetIndex index_;
  unsigned ways_;
  unsigned stride_;  // ways_, up to a multiple of four; the ways beyond stay empty
  bool usual_;       // four ways and a power of two of sets: what find_quickly can do
  detail::ProbeKernel kernel_;
  std::unique_ptr<Word[], FreeWords> words_;
  // log2 of the page sizes to look for, one bit each; none after everything was flushed.
  std::atomic<std::uint64_t> sizes_{0};
  // Those of which there ever were entries. What a flush of pages has to look for: an entry whose bit in sizes_ is gone
  // may still be on its way out in another thread, while a third makes the bit come back.
  std::atomic<std::uint64_t> sizes_ever_{0};
  FlushLog log_;
  CounterSet counters_;
  mutable vm::detail::PerThread<ReadCounts> counts_;
};

// One set, for find_quickly(). `on_hit(size, frame, meta)` gets the entry.
template <class OnHit>
VM_TLB_ALWAYS_INLINE inline ShardedTlb::Quick ShardedTlb::probe_quickly(std::uint64_t vaddr, unsigned size,
                                                                        Context context,
                                                                        OnHit&& on_hit) const noexcept {
  const Set set{words_.get() + std::size_t{index_.masked(vaddr >> size)} * detail::usual_set_words, 4};
  // Acquire pairs with the release at the end of a change: all of that change is seen.
  const std::uint64_t before = set.sequence().load(std::memory_order_acquire);
  const unsigned equal = detail::match4(&set.tag(0), tag_of(vaddr, size));
  // Nothing to check for a miss: changes never move entries, so one that is there throughout is seen.
  if (equal == 0) return Quick::miss;
  const unsigned way = detail::lowest_bit(equal);
  // Acquire pairs with the releases within a change: who sees a word of it sees the sequence odd or higher below.
  const std::uint64_t meta = set.meta(way).load(std::memory_order_acquire);
  const std::uint64_t frame = set.frame(way).load(std::memory_order_acquire);
  const std::uint64_t after = set.sequence().load(std::memory_order_relaxed);
  // An odd sequence before is no even one now.
  if (after != (before & ~std::uint64_t{1}) || !detail::answers_quickly(meta, context)) return Quick::unsure;
  on_hit(size, frame, meta);
  return Quick::hit;
}

/// The usual case of the usual shape, small enough to be everywhere. Unsure is what is rare: a writer in the way,
/// several contexts of one page in a set, the first use of a prefetched entry, other shapes.
template <class OnHit>
VM_TLB_ALWAYS_INLINE inline ShardedTlb::Quick ShardedTlb::find_quickly(std::uint64_t vaddr, Context context,
                                                                       OnHit&& on_hit) const noexcept {
  if (!usual_) return Quick::unsure;
  // Relaxed: a size that is missed is a miss.
  std::uint64_t sizes = sizes_.load(std::memory_order_relaxed);
  if ((sizes & detail::usual_size_bit) != 0) {
    const Quick quick = probe_quickly(vaddr, detail::usual_size, context, on_hit);
    if (quick != Quick::miss) return quick;
  }
  for (sizes &= ~detail::usual_size_bit; sizes != 0; sizes &= sizes - 1) {
    const Quick quick = probe_quickly(vaddr, detail::lowest_bit(sizes), context, on_hit);
    if (quick != Quick::miss) return quick;
  }
  return Quick::miss;
}

VM_TLB_ALWAYS_INLINE inline bool ShardedTlb::find(std::uint64_t vaddr, Context context, PackedEntry& entry,
                                                  ReadCounts& counts) const noexcept {
  const Quick quick =
      find_quickly(vaddr, context, [&](unsigned size, std::uint64_t frame, std::uint64_t meta) noexcept {
        entry.tag = tag_of(vaddr, size);
        entry.frame = frame;
        entry.meta = meta;
      });
  if (quick == Quick::unsure) return find_patiently(vaddr, context, entry, counts);
  counts.add(quick == Quick::hit ? Counter::hits : Counter::misses);
  return quick == Quick::hit;
}

// Nothing is called here but at the end, which spares the registers.
VM_TLB_ALWAYS_INLINE inline bool ShardedTlb::look_up(std::uint64_t vaddr, Context context, Hit& hit,
                                                     ReadCounts& counts) const noexcept {
  const Quick quick =
      find_quickly(vaddr, context, [&](unsigned size, std::uint64_t frame, std::uint64_t meta) noexcept {
        counts.add(Counter::hits);
        detail::set_hit(hit, frame, meta, size, vaddr);
      });
  if (quick == Quick::hit) return true;
  if (quick == Quick::unsure) return look_up_patiently(vaddr, context, hit, counts);
  counts.add(Counter::misses);
  return false;
}

}  // namespace vm::mem::tlb
