#include "vm/mem/tlb/hybrid_tlb.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::mem::tlb {

namespace detail {

HybridSide::HybridSide(const ShardedTlb& shared, const CounterSet& counters, std::uint32_t entries, std::uint32_t ways)
    : log_(&shared.log()),
      current_(shared.log().generation()),
      seen_(current_),
      level_(entries, ways),
      counts_(counters),
      reader_(shared.reader()) {}

void HybridSide::stand_aside(std::uint32_t lookups) noexcept {
  bypass_ = lookups;
  current_ = none;
}

void HybridSide::judge() noexcept {
  if (++misses_on_trial_ < trial_misses) return;
  const std::uint64_t hits = counts_.value(Counter::hits);
  if (hits - hits_then_ < worthwhile_hits * trial_misses) stand_aside(retry_length);
  misses_on_trial_ = 0;
  hits_then_ = hits;
}

// Goes through the flushes that this level has not read about. False when it had better be left out for a while; what
// it has missed by then it reads when it comes back.
bool HybridSide::catch_up() noexcept {
  const std::uint64_t lookups = counts_.value(Counter::hits) + counts_.value(Counter::misses);
  hasty_ = lookups - lookups_then_ < few_lookups ? hasty_ + 1 : 0;
  lookups_then_ = lookups;
  if (hasty_ >= hasty_limit) {
    hasty_ = 0;
    stand_aside(bypass_length);
    return false;
  }
  const std::uint64_t upto = log_->generation();
  // Requests that are gone from the log may have covered anything.
  bool gone = upto - seen() > FlushLog::capacity;
  for (std::uint64_t next = seen() + 1; next <= upto && !gone; ++next) {
    FlushRequest request;
    gone = !log_->read(next, request);
    if (!gone) counts_.add(Counter::flushed, level_.flush(request));
  }
  if (gone) counts_.add(Counter::flushed, level_.flush(FlushRequest::all()));
  seen_.store(upto, std::memory_order_relaxed);
  current_ = upto;
  settled_ = false;
  return true;
}

VM_TLB_NEVER_INLINE bool HybridSide::lookup_after_news(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
  const bool usable = bypass_ == 0 && catch_up();
  return (usable && lookup_private(vaddr, context, hit)) || lookup_shared(usable, vaddr, context, hit);
}

std::size_t HybridSide::lookup(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit,
                               bool* found) noexcept {
  std::size_t hits = 0;
  std::uint64_t own_hits = 0;
  for (std::size_t i = 0; i < count;) {
    if (bypass_ != 0) {
      const std::size_t some = std::min<std::size_t>(bypass_, count - i);
      hits += lookup_aside(vaddr + i, some, context, hit + i, found + i);
      i += some;
      continue;
    }
    // The generation at each one: what a flush has covered that returned meanwhile is not answered any more.
    found[i] = log_->generation() == current_ &&
               level_.find(vaddr[i], context, [&](unsigned size, std::uint64_t frame, std::uint64_t meta) noexcept {
                 store_hit(hit[i], frame, meta, size, vaddr[i]);
                 ++own_hits;
               });
    if (!found[i]) {
      // Counted first: what follows may look at the counts.
      hits += own_hits;
      counts_.add(Counter::hits, std::exchange(own_hits, 0));
      found[i] = log_->generation() == current_ ? lookup_shared(true, vaddr[i], context, hit[i])
                                                : lookup_after_news(vaddr[i], context, hit[i]);
      hits += found[i] ? 1 : 0;
    }
    ++i;
  }
  counts_.add(Counter::hits, own_hits);
  return hits + own_hits;
}

// Look-ups that leave the private level out, of which there are at least `count`.
std::size_t HybridSide::lookup_aside(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit,
                                     bool* found) noexcept {
  bypass_ -= static_cast<std::uint32_t>(count);
  counts_.add(Counter::misses, count);
  const std::size_t hits = reader_.lookup(vaddr, count, context, hit, found);
  for (std::size_t i = 0; i < count; ++i) hit[i].tlb_level = 1;
  return hits;
}

VM_TLB_NEVER_INLINE bool HybridSide::lookup_shared(bool usable, std::uint64_t vaddr, Context context,
                                                   Hit& hit) noexcept {
  counts_.add(Counter::misses);
  if (bypass_ != 0)
    --bypass_;
  else if (usable)
    judge();
  // Asked before the shared level is: what it answers after that is what the flushes up to seen_ have left, and those
  // that come later this level will read about.
  if (usable && !settled_) settled_ = log_->settled_at(seen());
  PackedEntry entry;
  if (!reader_.find(vaddr, context, entry)) return false;
  set_hit(hit, entry, vaddr);
  hit.tlb_level = 1;
  if (usable && settled_) {
    entry.meta &= ~meta_prefetched;
    counts_.add(Counter::fills);
    if (level_.fill(entry)) counts_.add(Counter::evictions);
  }
  return true;
}

std::size_t HybridSide::live() const noexcept {
  std::size_t live = 0;
  const std::uint64_t known = seen();
  const std::uint64_t now = log_->generation();
  level_.for_each([&](std::uint64_t tag, std::uint64_t meta) { live += log_->covered(known, now, tag, meta) ? 0 : 1; });
  return live;
}

}  // namespace detail

namespace {

std::uint32_t checked_entries(std::uint32_t entries, std::uint32_t ways) {
  if (ways == 0 || ways > ShardedTlb::max_ways || entries == 0 || entries % ways != 0) {
    throw InvalidConfig("private levels of " + std::to_string(entries) + " entries in " + std::to_string(ways) +
                        " ways cannot be; there are 1 to " + std::to_string(ShardedTlb::max_ways) +
                        " ways, and the entries are a multiple of them");
  }
  return entries;
}

}  // namespace

HybridTlb::HybridTlb(std::uint32_t private_entries, std::uint32_t private_ways, std::uint32_t shared_entries,
                     std::uint32_t shared_ways)
    : private_entries_(checked_entries(private_entries, private_ways)),
      private_ways_(private_ways),
      shared_(shared_entries, shared_ways),
      counters_({"hits", "misses", "fills", "evictions", "flushed"}) {}

HybridTlb::~HybridTlb() = default;

std::unique_ptr<detail::HybridSide> HybridTlb::make_side() const {
  return std::make_unique<detail::HybridSide>(shared_, counters_, private_entries_, private_ways_);
}

HybridTlb::Local HybridTlb::local() { return {shared_, sides_.handle(make_side())}; }

bool HybridTlb::Local::insert(const Entry& entry, FillTicket ticket) noexcept {
  side_.get()->drop(entry);
  return shared_->insert(entry, ticket);
}

bool HybridTlb::lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
  if (detail::HybridSide* side = sides_.known()) return side->lookup(vaddr, context, hit);
  return first_lookup(vaddr, context, hit);
}

std::size_t HybridTlb::lookup(const std::uint64_t* vaddr, std::size_t count, Context context, Hit* hit,
                              bool* found) noexcept {
  detail::HybridSide* side = sides_.known();
  if (side == nullptr) side = sides_.mine([this] { return make_side(); });
  if (side != nullptr) return side->lookup(vaddr, count, context, hit, found);
  std::size_t hits = 0;
  for (std::size_t i = 0; i < count; ++i) {
    found[i] = first_lookup(vaddr[i], context, hit[i]);
    hits += found[i] ? 1 : 0;
  }
  return hits;
}

VM_TLB_NEVER_INLINE bool HybridTlb::first_lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept {
  detail::HybridSide* side = sides_.mine([this] { return make_side(); });
  if (side != nullptr) return side->lookup(vaddr, context, hit);
  try {
    counters_.add(detail::HybridSide::Counter::misses);
  } catch (const std::bad_alloc&) {
    // No memory for this thread's counters either.
  }
  const bool found = shared_.lookup(vaddr, context, hit);
  hit.tlb_level = 1;
  return found;
}

bool HybridTlb::insert(const Entry& entry, FillTicket ticket) noexcept {
  detail::HybridSide* side = sides_.known();
  if (side == nullptr) side = sides_.mine([this] { return make_side(); });
  if (side != nullptr) side->drop(entry);
  return shared_.insert(entry, ticket);
}

TlbStats HybridTlb::stats() const {
  using Counter = detail::HybridSide::Counter;
  // The set first: a thread that ends in between takes its counts there, and must not be counted twice.
  std::vector<std::uint64_t> counted = counters_.snapshot().values();
  sides_.for_each([&](const detail::HybridSide& side) { side.counts().add_to(counted); });
  TlbStats stats = shared_.stats();
  stats.levels.insert(stats.levels.begin(), {counted[Counter::hits], counted[Counter::misses], counted[Counter::fills],
                                             counted[Counter::evictions], counted[Counter::flushed]});
  return stats;
}

std::size_t HybridTlb::size() const noexcept {
  std::size_t live = shared_.size();
  sides_.for_each([&](const detail::HybridSide& side) { live += side.live(); });
  return live;
}

std::size_t HybridTlb::capacity() const noexcept {
  std::size_t entries = shared_.capacity();
  sides_.for_each([&](const detail::HybridSide& side) { entries += side.capacity(); });
  return entries;
}

}  // namespace vm::mem::tlb
