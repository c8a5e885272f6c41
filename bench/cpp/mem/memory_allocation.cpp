// Allocation as programs do it: blocks of one size in batches, and a working set of blocks of mixed sizes in which one
// is replaced after the other (P. Larson & M. Krishnan, ISMM 1998), by one thread and by two. Names are WHO/CASE; an
// item is one block, allocated, written to and freed.

#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <memory_resource>
#include <random>
#include <string>
#include <vector>

#include "alloc_batch.hpp"
#include "alloc_peers.hpp"
#include "vm/mem/alloc/memory_resource.hpp"
#include "vm/mem/alloc/slab_allocator.hpp"

namespace {

using namespace alloc_bench;
using vm::mem::alloc::SlabAllocator;

// More than a first-level cache holds, less than a second.
constexpr std::size_t working_set = 2000;
constexpr std::size_t steps = std::size_t{1} << 14;

struct Step {
  std::uint32_t place;
  std::uint32_t size;
};

/// Which block to replace, by which size: 16 to 1024 bytes, each doubling as likely as the others.
const std::vector<Step>& mixed_steps() {
  static const std::vector<Step> all = [] {
    std::mt19937 random(5);
    std::uniform_real_distribution<double> log2(4.0, 10.0);
    std::vector<Step> list(steps);
    for (Step& step : list) {
      step = {static_cast<std::uint32_t>(random() % working_set), static_cast<std::uint32_t>(std::exp2(log2(random)))};
    }
    return list;
  }();
  return all;
}

template <class A>
void fixed_loop(benchmark::State& state, A allocator, std::size_t size) {
  std::array<void*, batch> blocks{};
  for (auto _ : state) {
    for (void*& block : blocks) {
      block = allocator.allocate(size);
      *static_cast<std::uint64_t*>(block) = size;
    }
    for (const std::uint32_t i : shuffled()) allocator.release(blocks[i], size);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
}

template <class A>
void mixed_loop(benchmark::State& state, A allocator) {
  struct Block {
    void* start = nullptr;
    std::size_t size = 0;
  };
  std::vector<Block> blocks(working_set);
  for (auto _ : state) {
    for (const Step& step : mixed_steps()) {
      Block& block = blocks[step.place];
      if (block.start != nullptr) allocator.release(block.start, block.size);
      block = {allocator.allocate(step.size), step.size};
      *static_cast<std::uint64_t*>(block.start) = step.size;
    }
  }
  for (const Block& block : blocks) {
    if (block.start != nullptr) allocator.release(block.start, block.size);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(steps));
}

SlabAllocator& slabs() {
  static SlabAllocator allocator;
  return allocator;
}

struct Slab {
  void* allocate(std::size_t size) { return slab.allocate(size); }
  void release(void* block, std::size_t size) { slab.deallocate(block, size); }
  SlabAllocator& slab = slabs();
};

struct Called {
  void* allocate(std::size_t size) { return peer.allocate(size); }
  void release(void* block, std::size_t) { peer.release(block); }
  const Peer& peer;
};

struct Resource {
  void* allocate(std::size_t size) { return resource.allocate(size, 16); }
  void release(void* block, std::size_t size) { resource.deallocate(block, size, 16); }
  std::pmr::memory_resource& resource;
};

template <class Make>
void add(const std::string& who, const Make& make, bool threads) {
  for (const std::size_t size : {16U, 256U, 1024U, 4096U, 8192U}) {
    benchmark::RegisterBenchmark((who + "/" + std::to_string(size) + "_bytes").c_str(),
                                 [make, size](benchmark::State& s) { fixed_loop(s, make(), size); });
  }
  const auto mixed = [make](benchmark::State& s) { mixed_loop(s, make()); };
  benchmark::RegisterBenchmark((who + "/mixed").c_str(), mixed);
  if (threads) benchmark::RegisterBenchmark((who + "/mixed_2_threads").c_str(), mixed)->Threads(2)->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  make_room_for_thread_locals(argv);
  static vm::mem::alloc::SlabResource slab_resource(slabs());
  static std::pmr::unsynchronized_pool_resource unsynchronized;
  static std::pmr::synchronized_pool_resource synchronized;
  add(
      "slab_inlined", [] { return Slab{}; }, true);
  add(
      "slab_resource", [] { return Resource{slab_resource}; }, true);
  for (const Peer& peer : peers())
    add(
        peer.name, [&peer] { return Called{peer}; }, true);
  add(
      "pmr_unsynchronized", [] { return Resource{unsynchronized}; }, false);
  add(
      "pmr_synchronized", [] { return Resource{synchronized}; }, true);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
