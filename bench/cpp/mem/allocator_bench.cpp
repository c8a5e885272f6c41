// What one allocation costs: pairs of allocate and free, batches freed in random order, and blocks that another thread
// frees. Names are WHO/CASE; an item is one block, allocated and freed.

#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <string>
#include <thread>

#include "alloc_batch.hpp"
#include "alloc_peers.hpp"
#include "vm/mem/alloc/bump_allocator.hpp"
#include "vm/mem/alloc/memory_resource.hpp"
#include "vm/mem/alloc/slab_allocator.hpp"

#if VM_HAVE_BOOST_POOL
#include <boost/pool/pool.hpp>
#endif

namespace {

using namespace alloc_bench;
using vm::mem::alloc::BumpAllocator;
using vm::mem::alloc::SlabAllocator;

constexpr std::size_t size = 64;
constexpr std::size_t pairs = 1000;

using Blocks = std::array<void*, batch>;

// --- The loops -------------------------------------------------------------------------------------------------------

template <class A>
void pair_loop(benchmark::State& state, A allocator) {
  for (auto _ : state) {
    for (std::size_t i = 0; i < pairs; ++i) {
      void* block = allocator.allocate();
      benchmark::DoNotOptimize(block);
      allocator.release(block);
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(pairs));
}

template <class A>
void batch_loop(benchmark::State& state, A allocator) {
  const std::array<std::uint32_t, batch>& order = shuffled();
  Blocks blocks{};
  for (auto _ : state) {
    for (void*& block : blocks) block = allocator.allocate();
    benchmark::ClobberMemory();
    for (const std::uint32_t i : order) allocator.release(blocks[i]);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
}

/// Two threads that free what the other one allocated. Each fills its row while the other empties the one before.
struct Crossing {
  struct alignas(128) Side {
    std::array<Blocks, 2> rows{};
    std::atomic<std::uint64_t> filled{0};
    std::atomic<std::uint64_t> emptied{0};
  };
  std::array<Side, 2> sides;
};

inline void wait_for(const std::atomic<std::uint64_t>& counter, std::uint64_t value) {
  // Where others use the machine too, the other thread may need this one's processor.
  for (unsigned tries = 0; counter.load(std::memory_order_acquire) < value; ++tries) {
    if (tries > 1000) std::this_thread::yield();
  }
}

template <class A>
void cross_loop(benchmark::State& state, A allocator, Crossing& crossing) {
  const auto me = static_cast<std::size_t>(state.thread_index());
  Crossing::Side& mine = crossing.sides[me];
  Crossing::Side& other = crossing.sides[1 - me];
  std::uint64_t round = mine.filled.load(std::memory_order_relaxed);
  for (auto _ : state) {
    wait_for(mine.emptied, round == 0 ? 0 : round - 1);
    for (void*& block : mine.rows[round % 2]) {
      block = allocator.allocate();
      *static_cast<std::uint64_t*>(block) = round;  // what a program does with a block before it sends it away
    }
    ++round;
    mine.filled.store(round, std::memory_order_release);
    wait_for(other.filled, round);
    std::uint64_t sum = 0;
    for (void* block : other.rows[(round - 1) % 2]) {
      sum += *static_cast<std::uint64_t*>(block);
      allocator.release(block);
    }
    benchmark::DoNotOptimize(sum);
    other.emptied.store(round, std::memory_order_release);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
}

// --- Who ------------------------------------------------------------------------------------------------------------

SlabAllocator& slabs() {
  static SlabAllocator allocator;
  return allocator;
}

struct SlabInlined {
  void* allocate() { return slab.allocate(size); }
  void release(void* block) { slab.deallocate(block, size); }
  SlabAllocator& slab = slabs();
};

struct SlabUnsized {
  void* allocate() { return slab.allocate(size); }
  void release(void* block) { slab.deallocate(block); }
  SlabAllocator& slab = slabs();
};

struct SlabLocal {
  void* allocate() { return slab.allocate(size); }
  void release(void* block) { slab.deallocate(block, size); }
  SlabAllocator::Local slab = slabs().local();
};

struct Called {
  void* allocate() { return peer.allocate(size); }
  void release(void* block) { peer.release(block); }
  const Peer& peer;
};

struct Resource {
  void* allocate() { return resource.allocate(size, 16); }
  void release(void* block) { resource.deallocate(block, size, 16); }
  std::pmr::memory_resource& resource;
};

#if VM_HAVE_BOOST_POOL
/// Without a lock: one thread only.
struct BoostPool {
  void* allocate() { return pool.malloc(); }
  void release(void* block) { pool.free(block); }
  boost::pool<> pool{size};
};
#endif

// --- Bumping a pointer
// ------------------------------------------------------------------------------------------------

constexpr std::size_t arena_bytes = pairs * size;

/// A function of its own at a place of its own: what a loop of one or two cycles costs depends on where it begins.
template <class Next>
[[gnu::noinline, gnu::aligned(64)]] void bump_many(Next next) {
  for (std::size_t i = 0; i < pairs; ++i) {
    void* block = next();
    benchmark::DoNotOptimize(block);
  }
}

template <class Next, class Reset>
void bump_loop(benchmark::State& state, Next next, Reset&& reset) {
  for (auto _ : state) {
    reset();
    bump_many(next);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(pairs));
}

void bump_inlined(benchmark::State& state) {
  BumpAllocator arena(arena_bytes);
  bump_loop(
      state, [&] { return arena.allocate(size); }, [&] { arena.reset(); });
}

/// The floor: the sum, without asking whether there is room.
void pointer_add(benchmark::State& state) {
  BumpAllocator arena(arena_bytes);
  auto* const start = static_cast<std::byte*>(arena.allocate(arena_bytes));
  struct Cursor {
    std::byte* at;
  };
  const auto cursor = std::make_unique<Cursor>(Cursor{start});
  const auto next = [&at = cursor->at] {
    std::byte* const block = at;
    at = block + size;
    return block;
  };
  bump_loop(state, next, [&] { cursor->at = start; });
}

void pmr_monotonic(benchmark::State& state) {
  BumpAllocator arena(arena_bytes);
  void* const start = arena.allocate(arena_bytes);
  std::pmr::monotonic_buffer_resource resource(start, arena_bytes, std::pmr::null_memory_resource());
  // release() starts again at the beginning of the buffer.
  bump_loop(
      state, [&] { return resource.allocate(size, 16); }, [&] { resource.release(); });
}

void bump_resource(benchmark::State& state) {
  BumpAllocator arena(arena_bytes);
  vm::mem::alloc::BumpResource resource(arena);
  std::pmr::memory_resource& called = resource;
  bump_loop(
      state, [&] { return called.allocate(size, 16); }, [&] { arena.reset(); });
}

// --- The table -------------------------------------------------------------------------------------------------------

template <class Make>
void add(const std::string& who, const Make& make, bool threads) {
  benchmark::RegisterBenchmark((who + "/pair").c_str(), [make](benchmark::State& s) { pair_loop(s, make()); });
  benchmark::RegisterBenchmark((who + "/batch").c_str(), [make](benchmark::State& s) { batch_loop(s, make()); });
  if (!threads) return;
  auto crossing = std::make_shared<Crossing>();
  benchmark::RegisterBenchmark((who + "/cross").c_str(),
                               [make, crossing](benchmark::State& s) { cross_loop(s, make(), *crossing); })
      ->Threads(2)
      ->UseRealTime();
}

}  // namespace

int main(int argc, char** argv) {
  make_room_for_thread_locals(argv);
  static vm::mem::alloc::SlabResource slab_resource(slabs());
  static std::pmr::unsynchronized_pool_resource unsynchronized;
  static std::pmr::synchronized_pool_resource synchronized;
#if VM_HAVE_BOOST_POOL
  add(
      "boost_pool", [] { return BoostPool{}; }, false);
#endif
  add(
      "slab_inlined", [] { return SlabInlined{}; }, true);
  add(
      "slab_unsized", [] { return SlabUnsized{}; }, true);
  add(
      "slab_local", [] { return SlabLocal{}; }, true);
  add(
      "slab_resource", [] { return Resource{slab_resource}; }, true);
  for (const Peer& peer : peers())
    add(
        peer.name, [&peer] { return Called{peer}; }, true);
  add(
      "pmr_unsynchronized", [] { return Resource{unsynchronized}; }, false);
  add(
      "pmr_synchronized", [] { return Resource{synchronized}; }, true);
  benchmark::RegisterBenchmark("pointer_add/bump", &pointer_add);
  benchmark::RegisterBenchmark("bump_inlined/bump", &bump_inlined);
  benchmark::RegisterBenchmark("bump_resource/bump", &bump_resource);
  benchmark::RegisterBenchmark("pmr_monotonic/bump", &pmr_monotonic);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
