#include "mem/alloc/slab_heap.hpp"

#include <algorithm>
#include <string>

#include "vm/core/error.hpp"

namespace vm::mem::alloc::detail {

namespace {

constexpr std::memory_order relaxed = std::memory_order_relaxed;

/// For twice as many blocks as there can be of the smallest size, and some for threads; fewer where a stack cannot name
/// so many: who gets none takes single blocks.
std::uint32_t magazines_for(std::uint64_t capacity) noexcept {
  const std::uint64_t wanted = capacity / smallest_block / (magazine_cells / 2) + 4096;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, most_magazines - 1));
}

/// Only the thread of the stocks writes their counter.
void count_exchange(ThreadStocks& stocks) noexcept {
  stocks.exchanges.store(stocks.exchanges.load(relaxed) + 1, relaxed);
}

const SlabConfig& checked(const SlabConfig& config) {
  const Hardening& hardening = config.hardening;
  if (!hardening.checks && (hardening.canaries || hardening.quarantine != 0)) {
    throw InvalidConfig("canaries and quarantine need Hardening::checks; set it too");
  }
  return config;
}

}  // namespace

ThreadStocks::ThreadStocks(SlabHeap& heap) noexcept : heap_(&heap) {
  for (unsigned i = 0; i < class_count; ++i) {
    loaded[i].store(heap.magazines.none(), relaxed);
    spare[i].store(heap.magazines.none(), relaxed);
  }
}

ThreadStocks::~ThreadStocks() { heap_->take_back(*this); }

SlabHeap::SlabHeap(const SlabConfig& wanted)
    : config(checked(wanted)), store(config), magazines(magazines_for(store.capacity())) {
  if (config.hardening.checks) checks.emplace(store, config.hardening);
  for (unsigned i = 0; i < class_count; ++i) {
    const std::uint64_t fit = config.cached_bytes / (std::uint64_t{magazine_blocks(i)} * block_size(i));
    depots_[i].deepest = static_cast<std::uint32_t>(std::min<std::uint64_t>(fit, deepest_stack));
  }
}

void* SlabHeap::refill(ThreadStocks* stocks, unsigned size_class) {
  if (stocks == nullptr) return take_one(stocks, size_class);
  void** const loaded = stocks->loaded[size_class].load(relaxed);
  void** const spare = stocks->spare[size_class].load(relaxed);
  if (magazines.count(size_class, spare) != 0) {
    stocks->loaded[size_class].store(spare, relaxed);
    stocks->spare[size_class].store(loaded, relaxed);
    return stocks->pop(size_class);
  }
  if (const std::uint32_t full = depots_[size_class].full.pop(magazines)) {
    count_exchange(*stocks);
    void** const cells = magazines.cells(full);
    // The cells come from another processor's cache, all of them at once instead of one after the other.
    for (std::size_t i = 0; i < magazine_cells; i += 64 / sizeof(void*)) __builtin_prefetch(cells + i);
    stocks->loaded[size_class].store(cells + magazine_cells, relaxed);
    if (magazines.index_of(spare) == 0) {
      stocks->spare[size_class].store(loaded, relaxed);
    } else if (magazines.index_of(loaded) != 0) {
      empty_.push(magazines, magazines.index_of(loaded));
    }
    return stocks->pop(size_class);
  }
  std::uint32_t index = magazines.index_of(loaded);
  if (index == 0) index = empty_magazine();
  if (index == 0) return take_one(stocks, size_class);
  void** const first = magazines.adopt(size_class, index);
  stocks->loaded[size_class].store(first, relaxed);
  const std::uint32_t got = store.take(size_class, first, magazine_blocks(size_class));
  if (got == 0) return take_one(stocks, size_class);
  std::reverse(first, first + got);  // low addresses lie on top, so that memory is used from the bottom up
  stocks->loaded[size_class].store(first + got, relaxed);
  return stocks->pop(size_class);
}

void SlabHeap::flush(ThreadStocks* stocks, unsigned size_class, void* block) noexcept {
  if (stocks == nullptr) return store.give(size_class, &block, 1);
  void** const loaded = stocks->loaded[size_class].load(relaxed);
  void** const spare = stocks->spare[size_class].load(relaxed);
  const std::uint32_t spare_index = magazines.index_of(spare);
  if (spare_index != 0 && magazines.count(size_class, spare) < magazine_blocks(size_class)) {
    stocks->loaded[size_class].store(spare, relaxed);
    stocks->spare[size_class].store(loaded, relaxed);
    stocks->push(size_class, block);
    return;
  }
  std::uint32_t index = 0;
  if (spare_index != 0) {
    stocks->spare[size_class].store(magazines.none(), relaxed);
    if (keep(size_class, spare)) {
      count_exchange(*stocks);
    } else {
      store.give(size_class, magazines.first(size_class, spare_index), magazine_blocks(size_class));
      index = spare_index;
    }
  }
  if (index == 0) index = empty_magazine();
  if (index == 0) return store.give(size_class, &block, 1);
  stocks->spare[size_class].store(loaded, relaxed);
  stocks->loaded[size_class].store(magazines.adopt(size_class, index), relaxed);
  stocks->push(size_class, block);
}

/// The blocks of a full magazine wait in the depot; false when there are enough.
bool SlabHeap::keep(unsigned size_class, void** top) noexcept {
  Depot& depot = depots_[size_class];
  if (depot.full.depth() >= depot.deepest) return false;
  depot.full.push(magazines, magazines.index_of(top));
  return true;
}

std::uint32_t SlabHeap::empty_magazine() noexcept {
  const std::uint32_t index = empty_.pop(magazines);
  return index != 0 ? index : magazines.fresh();
}

void* SlabHeap::take_one(ThreadStocks* stocks, unsigned size_class) {
  void* block = nullptr;
  if (store.take(size_class, &block, 1) != 0) return block;
  // Another size may hold slabs of which no block is in use.
  if (stocks != nullptr) take_back(*stocks);
  empty_depot();
  if (store.take(size_class, &block, 1) != 0) return block;
  throw_exhausted(size_class);
}

void* SlabHeap::allocate_checked(unsigned size_class, std::size_t size) {
  if (void* const block = checks->allocate(size_class, size)) return block;
  checks->empty_quarantine();
  if (void* const block = checks->allocate(size_class, size)) return block;
  throw_exhausted(size_class);
}

void SlabHeap::throw_exhausted(unsigned size_class) const {
  throw ResourceExhausted("no block of " + std::to_string(block_size(size_class)) + " bytes: all of the capacity of " +
                          hex(store.capacity()) + " bytes is in use; choose a larger capacity, or free something");
}

void SlabHeap::take_back(ThreadStocks& stocks) noexcept {
  // Moved, not added: stocks that are only emptied go on counting.
  std::uint64_t exchanges = stocks.exchanges.exchange(0, relaxed);
  if (closing_.load(relaxed)) return;
  for (unsigned i = 0; i < class_count; ++i) {
    for (std::atomic<void**>* const place : {&stocks.loaded[i], &stocks.spare[i]}) {
      void** const top = place->exchange(magazines.none(), relaxed);
      const std::uint32_t index = magazines.index_of(top);
      if (index == 0) continue;
      const std::uint32_t found = magazines.count(i, top);
      if (found == magazine_blocks(i) && keep(i, top)) {
        ++exchanges;
        continue;
      }
      if (found != 0) store.give(i, magazines.first(i, index), found);
      empty_.push(magazines, index);
    }
  }
  retired_exchanges_.fetch_add(exchanges, relaxed);
}

void SlabHeap::empty_depot() noexcept {
  for (unsigned i = 0; i < class_count; ++i) {
    while (const std::uint32_t index = depots_[i].full.pop(magazines)) {
      store.give(i, magazines.first(i, index), magazine_blocks(i));
      empty_.push(magazines, index);
    }
  }
}

void SlabHeap::count(const ThreadStocks& stocks, SlabStats& stats) const noexcept {
  for (unsigned i = 0; i < class_count; ++i) {
    stats.classes[i].cached += magazines.count(i, stocks.loaded[i].load(relaxed));
    stats.classes[i].cached += magazines.count(i, stocks.spare[i].load(relaxed));
  }
  stats.exchanges += stocks.exchanges.load(relaxed);
  ++stats.threads;
}

void SlabHeap::count_depot(SlabStats& stats) const noexcept {
  for (unsigned i = 0; i < class_count; ++i) {
    stats.classes[i].cached += std::uint64_t{depots_[i].full.depth()} * magazine_blocks(i);
  }
}

}  // namespace vm::mem::alloc::detail
