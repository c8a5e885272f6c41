#include "vm/mem/tlb/walk_cache.hpp"

#include <string>

#include "vm/core/error.hpp"

namespace vm::mem::tlb {
namespace {

constexpr std::uint32_t largest_level = std::uint32_t{1} << 20;

// Counters: hits, fills and evictions of each level, then the misses.
enum : std::size_t { hit_counter = 0, fill_counter = 4, eviction_counter = 8, miss_counter = 12 };

std::vector<std::string> counter_names() {
  std::vector<std::string> names;
  for (const char* what : {"hits", "fills", "evictions"})
    for (int level = 0; level < walk_cache_levels; ++level)
      names.push_back(std::string(what) + "_" + std::to_string(level));
  names.emplace_back("misses");
  return names;
}

std::uint32_t word_of(Context context) noexcept { return static_cast<std::uint32_t>(meta_context(context)); }

bool same_scope(std::uint32_t context, const FlushRequest& request) noexcept {
  if (request.scope == FlushScope::all) return true;
  if (request.scope == FlushScope::non_global) return context >> 16 == request.context.vmid;
  return context == word_of(request.context);
}

}  // namespace

WalkCache::WalkCache(const WalkCacheConfig& config, const std::array<unsigned, walk_cache_levels>& span_log2)
    : counters_(counter_names()) {
  for (int n = 0; n < walk_cache_levels; ++n) {
    const auto i = static_cast<std::size_t>(n);
    const std::uint32_t wanted = config.entries[i];
    if (wanted > largest_level)
      throw InvalidConfig("a walk cache of " + std::to_string(wanted) + " tables at level " + std::to_string(n) +
                          "; at most " + std::to_string(largest_level));
    if (wanted == 0) continue;
    std::uint64_t size = 1;
    while (size < wanted) size *= 2;
    levels_[i].slots = std::make_unique<Slot[]>(size);
    levels_[i].mask = size - 1;
    levels_[i].span_log2 = span_log2[i];
  }
}

void WalkCache::reshape(const std::array<unsigned, walk_cache_levels>& span_log2) noexcept {
  flush(FlushRequest::all());
  for (std::size_t n = 0; n < levels_.size(); ++n) levels_[n].span_log2 = span_log2[n];
}

WalkCache::Slot& WalkCache::Level::slot(std::uint64_t vaddr, std::uint32_t context) const noexcept {
  // Contexts use the same upper addresses: a multiple of the context (Fibonacci hashing) spreads them.
  const std::uint64_t number = (vaddr >> span_log2) + (context * std::uint64_t{0x9E37'79B9} >> 16);
  return slots[number & mask];
}

template <class Change>
void WalkCache::change(Slot& slot, Change&& change) noexcept {
  std::uint32_t even = slot.sequence.load(std::memory_order_relaxed) & ~1U;
  while (!slot.sequence.compare_exchange_weak(even, even + 1, std::memory_order_acquire, std::memory_order_relaxed))
    even &= ~1U;
  change();
  slot.sequence.store(even + 2, std::memory_order_release);
}

std::optional<CachedTable> WalkCache::lookup(std::uint64_t vaddr, Context context) const noexcept {
  const std::uint32_t wanted = word_of(context);
  for (int n = 0; n < walk_cache_levels; ++n) {
    const Level& level = levels_[static_cast<std::size_t>(n)];
    if (level.slots == nullptr) continue;
    const Slot& slot = level.slot(vaddr, wanted);
    // Acquire on every word keeps the second look at the sequence behind them.
    const std::uint32_t before = slot.sequence.load(std::memory_order_acquire);
    const std::uint64_t tag = slot.tag.load(std::memory_order_acquire);
    const std::uint32_t owner = slot.context.load(std::memory_order_acquire);
    const CachedTable found{slot.table.load(std::memory_order_acquire), slot.allowances.load(std::memory_order_acquire),
                            n};
    const bool current = slot.epoch.load(std::memory_order_acquire) == epoch_.load(std::memory_order_acquire);
    const std::uint32_t after = slot.sequence.load(std::memory_order_relaxed);
    if (!current || tag != (vaddr >> level.span_log2) + 1 || owner != wanted || before != after || (before & 1) != 0)
      continue;
    counters_.add(hit_counter + static_cast<std::size_t>(n));
    return found;
  }
  counters_.add(miss_counter);
  return std::nullopt;
}

void WalkCache::insert(std::uint64_t vaddr, Context context, const CachedTable& table, std::uint64_t ticket) noexcept {
  const auto n = static_cast<std::size_t>(table.level);
  if (table.level < 0 || table.level >= walk_cache_levels || levels_[n].slots == nullptr) return;
  const Level& level = levels_[n];
  const std::uint64_t tag = (vaddr >> level.span_log2) + 1;
  Slot& slot = level.slot(vaddr, word_of(context));
  bool filled = false, evicted = false;
  change(slot, [&] {
    // The epoch first: a flush that raises it has raised the generation before.
    const std::uint32_t epoch = epoch_.load(std::memory_order_acquire);
    // Under the slot's lock: a flush either has raised the generation, or finds what is written here.
    if (generation_.load(std::memory_order_acquire) != ticket) return;
    const std::uint64_t old = slot.tag.load(std::memory_order_relaxed);
    filled = true;
    evicted = old != 0 && slot.epoch.load(std::memory_order_relaxed) == epoch &&
              (old != tag || slot.context.load(std::memory_order_relaxed) != word_of(context));
    slot.tag.store(tag, std::memory_order_release);
    slot.context.store(word_of(context), std::memory_order_release);
    slot.table.store(table.table, std::memory_order_release);
    slot.allowances.store(table.allowances, std::memory_order_release);
    slot.epoch.store(epoch, std::memory_order_release);
  });
  if (filled) counters_.add(fill_counter + n);
  if (evicted) counters_.add(eviction_counter + n);
}

void WalkCache::flush_level(const Level& level, const FlushRequest& request) noexcept {
  const bool narrow = request.scope == FlushScope::page || request.scope == FlushScope::range;
  if (narrow && request.size == 0) return;
  const std::uint64_t end =
      request.size - 1 > UINT64_MAX - request.vaddr ? UINT64_MAX : request.vaddr + (request.size - 1);
  const std::uint64_t first = (request.vaddr >> level.span_log2) + 1, last = (end >> level.span_log2) + 1;
  const auto drop = [&](Slot& slot) {
    const std::uint64_t tag = slot.tag.load(std::memory_order_acquire);
    const std::uint32_t context = slot.context.load(std::memory_order_acquire);
    const bool covered = tag != 0 && same_scope(context, request) && (!narrow || (first <= tag && tag <= last));
    if (covered) slot.tag.store(0, std::memory_order_release);
  };
  if (narrow && last - first < level.mask) {
    for (std::uint64_t span = first; span <= last; ++span) {
      Slot& slot = level.slot((span - 1) << level.span_log2, word_of(request.context));
      change(slot, [&] { drop(slot); });
    }
    return;
  }
  for (std::uint64_t i = 0; i <= level.mask; ++i) change(level.slots[i], [&] { drop(level.slots[i]); });
}

void WalkCache::flush(const FlushRequest& request) noexcept {
  generation_.fetch_add(1, std::memory_order_acq_rel);
  // Only when the numbers have come round could a slot of long ago seem to be of now.
  if (request.scope == FlushScope::all && epoch_.fetch_add(1, std::memory_order_acq_rel) != UINT32_MAX) return;
  for (const Level& level : levels_)
    if (level.slots != nullptr) flush_level(level, request);
}

WalkCacheStats WalkCache::stats() const {
  const CounterSnapshot counts = counters_.snapshot();
  WalkCacheStats stats;
  for (std::size_t n = 0; n < stats.levels.size(); ++n)
    stats.levels[n] = {counts.values()[hit_counter + n], counts.values()[fill_counter + n],
                       counts.values()[eviction_counter + n]};
  stats.misses = counts.values()[miss_counter];
  return stats;
}

}  // namespace vm::mem::tlb
