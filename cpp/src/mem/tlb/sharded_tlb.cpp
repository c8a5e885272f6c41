#include "vm/mem/tlb/sharded_tlb.hpp"

#include <string>
#include <thread>

#include "vm/core/error.hpp"

namespace vm::mem::tlb {

namespace {

std::uint32_t checked_sets(std::uint32_t entries, std::uint32_t ways) {
  if (ways == 0 || ways > ShardedTlb::max_ways) {
    throw InvalidConfig("a sharded TLB has 1 to " + std::to_string(ShardedTlb::max_ways) + " ways, not " +
                        std::to_string(ways));
  }
  if (entries == 0 || entries % ways != 0) {
    throw InvalidConfig("a sharded TLB of " + std::to_string(entries) + " entries cannot have " + std::to_string(ways) +
                        " ways; the entries must be a multiple of the ways, and at least one set");
  }
  return entries / ways;
}

constexpr std::uint64_t size_bit(unsigned size_log2) noexcept { return std::uint64_t{1} << size_log2; }

}  // namespace

/// The right to change a set. Readers of the set try again for as long as it is held.
class ShardedTlb::Lock {
 public:
  /// Waits for other writers. A writer may have been preempted, so the processor is offered to it.
  explicit Lock(const Set& set) noexcept : set_(set) {
    for (unsigned attempt = 1;; ++attempt) {
      sequence_ = set_.sequence().load(std::memory_order_relaxed);
      if ((sequence_ & 1) == 0 && take()) return;
      if (attempt % patience == 0)
        std::this_thread::yield();
      else
        detail::relax();
    }
  }
  // Release: whoever reads the new sequence sees the whole change.
  ~Lock() { set_.sequence().store(sequence_ + 2, std::memory_order_release); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  const Set& set() const noexcept { return set_; }
  /// To be kept in the metas written under this lock.
  std::uint64_t stamp() const noexcept { return sequence_ >> 1 << stamp_shift; }

 private:
  bool take() noexcept {
    // seq_cst: comes before the look at the log in insert(), see FlushLog::generation().
    return set_.sequence().compare_exchange_weak(sequence_, sequence_ + 1, std::memory_order_seq_cst,
                                                 std::memory_order_relaxed);
  }

  Set set_;
  std::uint64_t sequence_ = 0;
};

ShardedTlb::ShardedTlb(std::uint32_t entries, std::uint32_t ways, detail::ProbeKernel kernel)
    : index_(checked_sets(entries, ways)),
      ways_(ways),
      stride_((ways + 3) / 4 * 4),
      usual_(stride_ == 4 && index_.is_power_of_two()),
      kernel_(kernel),
      counters_({"hits", "misses", "useful", "fills", "evictions", "flushed", "prefetch_fills", "useless",
                 "rejected_fills"}) {
  const std::size_t words = index_.sets() * words_per_set(stride_);
  words_.reset(static_cast<Word*>(::operator new (words * sizeof(Word), std::align_val_t{alignment})));
  for (std::size_t i = 0; i < words; ++i) new (&words_[i]) Word(0);
}

ShardedTlb::~ShardedTlb() = default;

void ShardedTlb::count(std::size_t counter, std::uint64_t n) const noexcept {
  try {
    counters_.add(counter, n);
  } catch (const std::bad_alloc&) {
    // Said in the header: no memory for this thread's counters, no counts.
  }
}

// Makes look-ups and flushes look for a page size, before there is an entry of it.
void ShardedTlb::announce(std::uint64_t bit) noexcept {
  // seq_cst, as in clean_pages(): either a flush of pages finds the size here, or the fill that announced it finds the
  // flush in the log.
  if ((sizes_ever_.load(std::memory_order_seq_cst) & bit) == 0) sizes_ever_.fetch_or(bit, std::memory_order_seq_cst);
  // Relaxed: where a flush of everything takes the bit away again, the entry is missed, and the next fill brings it
  // back.
  if ((sizes_.load(std::memory_order_relaxed) & bit) == 0) sizes_.fetch_or(bit, std::memory_order_relaxed);
}

bool ShardedTlb::insert(const Entry& entry, FillTicket ticket) noexcept {
  const PackedEntry packed = pack(entry);
  // Most of the log is read before the set is locked.
  const std::uint64_t checked = log_.generation();
  bool overtaken = log_.covered(ticket.generation, checked, packed.tag, packed.meta);
  if (!overtaken) {
    announce(size_bit(entry.size_log2));
    const Lock lock(set_at(index_(entry.vaddr >> entry.size_log2)));
    overtaken = log_.covered(checked, log_.generation(), packed.tag, packed.meta);
    if (!overtaken) write(lock, packed);
  }
  if (overtaken) {
    count(Counter::rejected_fills);
    return false;
  }
  count(Counter::fills);
  if (entry.prefetched) count(Counter::prefetch_fills);
  return true;
}

void ShardedTlb::write(const Lock& lock, const PackedEntry& entry) noexcept {
  const Set& set = lock.set();
  constexpr unsigned none = max_ways;
  unsigned target = none;
  unsigned empty = none;
  // Relaxed throughout: only the lock's holder writes these words, but for the prefetched flag.
  for (unsigned way = 0; way < ways_; ++way) {
    const std::uint64_t tag = set.tag(way).load(std::memory_order_relaxed);
    if (tag == 0) {
      if (empty == none) empty = way;
    } else if (tag == entry.tag &&
               detail::same_page_and_context(set.meta(way).load(std::memory_order_relaxed), entry.meta)) {
      if (target == none)
        target = way;
      else
        replace(lock, way, {});
    }
  }
  if (target == none) target = empty;
  if (target == none) {
    const std::uint64_t next = set.next().load(std::memory_order_relaxed);
    target = static_cast<unsigned>(next);
    set.next().store(next + 1 == ways_ ? 0 : next + 1, std::memory_order_relaxed);
    count(Counter::evictions);
  }
  replace(lock, target, entry);
}

void ShardedTlb::replace(const Lock& lock, unsigned way, const PackedEntry& entry) noexcept {
  const Set& set = lock.set();
  // Release: see probe().
  set.tag(way).store(entry.tag, std::memory_order_release);
  set.frame(way).store(entry.frame, std::memory_order_release);
  const std::uint64_t meta = entry.meta | lock.stamp();
  if ((set.meta(way).load(std::memory_order_relaxed) & meta_prefetched) == 0) {
    set.meta(way).store(meta, std::memory_order_release);
  } else if ((set.meta(way).exchange(meta, std::memory_order_acq_rel) & meta_prefetched) != 0) {
    count(Counter::useless);  // exchanged, so that a first use at this moment is counted as one or the other
  }
}

void ShardedTlb::flush(const FlushRequest& request) noexcept {
  log_.begin(request);
  switch (request.scope) {
    case FlushScope::page:
    case FlushScope::range: clean_pages(request); break;
    case FlushScope::all: sizes_.store(0, std::memory_order_relaxed); [[fallthrough]];
    case FlushScope::asid:
    case FlushScope::non_global: clean_all(request); break;
  }
  log_.complete();
}

void ShardedTlb::clean_pages(const FlushRequest& request) noexcept {
  if (request.size == 0) return;
  const std::uint64_t first = request.vaddr;
  const std::uint64_t last = request.size - 1 > UINT64_MAX - first ? UINT64_MAX : first + (request.size - 1);
  const std::uint64_t present = sizes_ever_.load(std::memory_order_seq_cst);  // see announce()
  std::uint64_t visits = 0;
  for (std::uint64_t sizes = present; sizes != 0; sizes &= sizes - 1) {
    const unsigned size = detail::lowest_bit(sizes);
    visits += (last >> size) - (first >> size) + 1;
  }
  if (visits >= index_.sets()) return clean_all(request);
  for (std::uint64_t sizes = present; sizes != 0; sizes &= sizes - 1) {
    const unsigned size = detail::lowest_bit(sizes);
    for (std::uint64_t page = first >> size; page <= last >> size; ++page) clean(set_at(index_(page)), request);
  }
}

void ShardedTlb::clean_all(const FlushRequest& request) noexcept {
  for (std::uint32_t index = 0; index < index_.sets(); ++index) clean(set_at(index), request);
}

void ShardedTlb::clean(const Set& set, const FlushRequest& request) noexcept {
  const auto covered = [&](unsigned way) {
    const std::uint64_t tag = set.tag(way).load(std::memory_order_acquire);
    return tag != 0 && covers(request, tag, set.meta(way).load(std::memory_order_acquire));
  };
  // A look without the lock, so that readers of sets that have nothing to lose are left in peace. seq_cst: a fill that
  // locks this set after the look finds the flush in the log; one that did so before shows here.
  for (unsigned attempt = 1;; ++attempt) {
    const std::uint64_t before = set.sequence().load(std::memory_order_seq_cst);
    if ((before & 1) == 0) {
      unsigned way = 0;
      while (way < ways_ && !covered(way)) ++way;
      if (way < ways_) break;
      if (set.sequence().load(std::memory_order_relaxed) == before) return;
    }
    if (attempt % patience == 0)
      std::this_thread::yield();
    else
      detail::relax();
  }
  std::uint64_t gone = 0;
  {
    const Lock lock(set);
    for (unsigned way = 0; way < ways_; ++way) {
      if (!covered(way)) continue;
      replace(lock, way, {});
      ++gone;
    }
  }
  count(Counter::flushed, gone);
}

TlbStats ShardedTlb::stats() const {
  // The set first: a thread that ends in between takes its counts there, and must not be counted twice.
  std::vector<std::uint64_t> counted = counters_.snapshot().values();
  counts_.for_each([&](const ReadCounts& own) { own.add_to(counted); });
  TlbStats stats;
  stats.levels.push_back({counted[Counter::hits], counted[Counter::misses], counted[Counter::fills],
                          counted[Counter::evictions], counted[Counter::flushed]});
  stats.prefetch = {counted[Counter::prefetch_fills], counted[Counter::useful], counted[Counter::useless]};
  stats.flushes = log_.completed();
  stats.rejected_fills = counted[Counter::rejected_fills];
  return stats;
}

std::size_t ShardedTlb::size() const noexcept {
  std::size_t live = 0;
  for (std::uint32_t index = 0; index < index_.sets(); ++index) {
    const Set set = set_at(index);
    // Relaxed: a number of entries publishes none of them.
    for (unsigned way = 0; way < ways_; ++way) live += set.tag(way).load(std::memory_order_relaxed) != 0 ? 1 : 0;
  }
  return live;
}

}  // namespace vm::mem::tlb
