// What allocating an array costs beside malloc and posix_memalign, and prefaulting beside touching.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "vm/mem/pages/array_allocator.hpp"
#include "vm/mem/pages/page_block.hpp"

namespace {

using vm::mem::ArrayAllocator;
using vm::mem::PageBlock;

constexpr std::int64_t small = 64;
constexpr std::int64_t large = 64 << 20;
constexpr int apart = 1024;
constexpr std::size_t alignment = 64;

std::size_t size_of(const benchmark::State& state) { return static_cast<std::size_t>(state.range(0)); }

void array_allocator_pair(benchmark::State& state) {
  ArrayAllocator allocator;
  for (auto _ : state) {
    void* const array = allocator.allocate(size_of(state));
    benchmark::DoNotOptimize(array);
    allocator.free(array);
  }
}
BENCHMARK(array_allocator_pair)->RangeMultiplier(apart)->Range(small, large);

void malloc_pair(benchmark::State& state) {
  for (auto _ : state) {
    void* const array = std::malloc(size_of(state));
    benchmark::DoNotOptimize(array);
    std::free(array);
  }
}
BENCHMARK(malloc_pair)->RangeMultiplier(apart)->Range(small, large);

void posix_memalign_pair(benchmark::State& state) {
  for (auto _ : state) {
    void* array = nullptr;
    if (::posix_memalign(&array, alignment, size_of(state)) != 0) return state.SkipWithError("no memory");
    benchmark::DoNotOptimize(array);
    std::free(array);
  }
}
BENCHMARK(posix_memalign_pair)->RangeMultiplier(apart)->Range(small, large);

/// range(0) is the number of threads; the memory is given back between two rounds.
void prefault(benchmark::State& state) {
  PageBlock block(large);
  for (auto _ : state) {
    block.prefault(0, block.capacity(), static_cast<unsigned>(state.range(0)));
    state.PauseTiming();
    block.purge();
    state.ResumeTiming();
  }
  state.SetBytesProcessed(state.iterations() * large);
}
BENCHMARK(prefault)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMicrosecond);

void touch(benchmark::State& state) {
  PageBlock block(large);
  for (auto _ : state) {
    for (std::uint64_t offset = 0; offset < block.capacity(); offset += block.page_size()) {
      block.data()[offset] = std::byte{1};
    }
    state.PauseTiming();
    block.purge();
    state.ResumeTiming();
  }
  state.SetBytesProcessed(state.iterations() * large);
}
BENCHMARK(touch)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
