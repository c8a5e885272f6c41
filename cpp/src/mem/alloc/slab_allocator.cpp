#include "vm/mem/alloc/slab_allocator.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "mem/alloc/fork_guard.hpp"
#include "mem/alloc/slab_heap.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::alloc {

using detail::SlabHeap;
using detail::ThreadStocks;

static_assert(detail::slab_shift == 16, "SlabAllocator::slab_shift_ is the same number");

namespace {

unsigned require_class(const SlabHeap& heap, std::size_t size, std::size_t alignment) {
  if (!is_alignment(alignment)) {
    throw InvalidConfig("blocks of slabs are aligned to a power of two up to " + std::to_string(largest_alignment) +
                        ", asked for " + std::to_string(alignment));
  }
  const std::size_t margin = heap.checks ? heap.checks->margin() : 0;
  const unsigned size_class = size <= largest_block ? class_of(size + margin, alignment) : class_count;
  if (size_class == class_count) {
    throw InvalidConfig("blocks of slabs have at most " + std::to_string(largest_block - margin) +
                        " bytes, asked for " + std::to_string(size) +
                        "; larger ones come from BumpAllocator, PoolAllocator or HostMapping");
  }
  return size_class;
}

}  // namespace

SlabAllocator::SlabAllocator(const SlabConfig& config)
    : heap_(std::make_unique<SlabHeap>(config)),
      base_(heap_->store.base()),
      capacity_(heap_->store.capacity()),
      slab_classes_(heap_->store.slab_classes()) {
  // In the order in which they are taken elsewhere.
  const auto lock = [this] {
    threads_.mutex().lock();
    if (heap_->checks) heap_->checks->mutex().lock();
    heap_->store.lock();
  };
  const auto unlock = [this] {
    heap_->store.unlock();
    if (heap_->checks) heap_->checks->mutex().unlock();
    threads_.mutex().unlock();
  };
  fork_guard_ = std::make_unique<detail::ForkGuard>(lock, unlock);
}

SlabAllocator::~SlabAllocator() {
  fork_guard_.reset();
  heap_->close();
}

/// The calling thread's stocks, made on its first call; nullptr with checks, which want to see every block, and where
/// a thread is about to end.
ThreadStocks* SlabAllocator::mine() noexcept {
  if (heap_->checks) return nullptr;
  return threads_.mine([this] { return std::make_unique<ThreadStocks>(*heap_); });
}

void* SlabAllocator::allocate_slowly(std::size_t size, std::size_t alignment) {
  const unsigned size_class = require_class(*heap_, size, alignment);
  if (heap_->checks) return heap_->allocate_checked(size_class, size);
  ThreadStocks* const stocks = mine();
  if (stocks != nullptr) {
    if (void* const block = stocks->pop(size_class)) return block;
  }
  return heap_->refill(stocks, size_class);
}

void* SlabAllocator::allocate_slowly(ThreadStocks& stocks, std::size_t size) {
  const unsigned size_class = require_class(*heap_, size, 1);
  return heap_->checks ? heap_->allocate_checked(size_class, size) : heap_->refill(&stocks, size_class);
}

void SlabAllocator::deallocate_slowly(void* block) {
  if (block == nullptr) return;
  if (heap_->checks) return heap_->checks->free(block, std::nullopt);
  const unsigned size_class = class_at(block);
  ThreadStocks* const stocks = mine();
  if (stocks == nullptr || !stocks->push(size_class, block)) heap_->flush(stocks, size_class, block);
}

void SlabAllocator::deallocate_slowly(void* block, std::size_t size, std::size_t alignment) {
  if (block == nullptr) return;
  if (heap_->checks) return heap_->checks->free(block, size);
  const unsigned size_class = require_class(*heap_, size, alignment);
  ThreadStocks* const stocks = mine();
  if (stocks == nullptr || !stocks->push(size_class, block)) heap_->flush(stocks, size_class, block);
}

void SlabAllocator::deallocate_slowly(ThreadStocks& stocks, void* block, std::size_t size) {
  if (block == nullptr) return;
  if (heap_->checks) return heap_->checks->free(block, size);
  heap_->flush(&stocks, require_class(*heap_, size, 1), block);
}

SlabAllocator::Local SlabAllocator::local() { return {*this, threads_.handle(std::make_unique<ThreadStocks>(*heap_))}; }

std::size_t SlabAllocator::largest_size() const noexcept {
  return largest_block - (heap_->checks ? heap_->checks->margin() : 0);
}

void SlabAllocator::reserve(std::size_t size, std::size_t count) {
  heap_->store.reserve(require_class(*heap_, size, 1), count);
}

std::uint64_t SlabAllocator::trim() {
  if (heap_->checks) heap_->checks->empty_quarantine();
  if (ThreadStocks* const stocks = mine()) heap_->take_back(*stocks);
  heap_->empty_depot();
  return heap_->store.purge();
}

void SlabAllocator::verify() {
  if (heap_->checks) heap_->checks->verify();
}

SlabStats SlabAllocator::stats() const {
  SlabStats stats;
  stats.exchanges = heap_->retired_exchanges();
  for (unsigned i = 0; i < class_count; ++i) stats.classes[i] = heap_->store.class_stats(i);
  threads_.for_each([&](const ThreadStocks& stocks) { heap_->count(stocks, stats); });
  heap_->count_depot(stats);
  for (SlabClassStats& each : stats.classes) {
    // What moved meanwhile may have been counted twice.
    each.cached = std::min(each.cached, each.live);
    each.live -= each.cached;
    stats.live_blocks += each.live;
    stats.live_bytes += each.live * each.block_size;
    stats.cached_bytes += each.cached * each.block_size;
    stats.slab_bytes += each.slabs * detail::slab_bytes;
  }
  stats.spare_slabs = heap_->store.spare_slabs();
  stats.quarantined = heap_->checks ? heap_->checks->quarantined() : 0;
  stats.repeated_frees = heap_->store.repeated_frees();
  return stats;
}

const SlabConfig& SlabAllocator::config() const noexcept { return heap_->config; }

}  // namespace vm::mem::alloc
