// What it costs to place memory and to be sure of it: this library beside libnuma and beside the bare system calls,
// which bind and believe. On a machine with more than one node also what a remote node costs a reader.
#include <benchmark/benchmark.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/numa/allocator.hpp"

#ifdef VM_HAVE_LIBNUMA
#include <numa.h>
#endif

namespace {

using namespace vm::mem;
using namespace vm::mem::numa;

constexpr std::uint64_t page = 4096;

NumaAllocator& allocator() {
  static NumaAllocator one;
  return one;
}

int first_node() {
  static const int node = allocator().decide(NumaPolicy::interleave()).nodes.front();
  return node;
}

void touch(void* data, std::uint64_t size) {
  for (std::uint64_t offset = 0; offset < size; offset += page) static_cast<volatile char*>(data)[offset] = 0;
}

void count_pages(benchmark::State& state) { state.SetItemsProcessed(state.iterations() * state.range(0) / 4096); }

/// mmap, mbind, and a touch of every page: nobody looks where the pages came to be.
void bare_mbind(benchmark::State& state) {
  const auto size = static_cast<std::uint64_t>(state.range(0));
  unsigned long mask = 1UL << first_node();
  for (auto _ : state) {
    void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (::syscall(SYS_mbind, data, size, 2, &mask, 65UL, 0U) != 0) return state.SkipWithError("mbind refused");
    touch(data, size);
    ::munmap(data, size);
  }
  count_pages(state);
}
BENCHMARK(bare_mbind)->Arg(1 << 16)->Arg(1 << 20)->Arg(1 << 26);

void on_node(benchmark::State& state, HugePages kind) {
  const auto size = static_cast<std::uint64_t>(state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(allocator().allocate_on_node(size, first_node(), {kind, false}));
  count_pages(state);
}
void on_node_small_pages(benchmark::State& state) { on_node(state, HugePages::none); }
void on_node_huge_pages(benchmark::State& state) { on_node(state, HugePages::automatic); }
BENCHMARK(on_node_small_pages)->Arg(1 << 16)->Arg(1 << 20)->Arg(1 << 26);
BENCHMARK(on_node_huge_pages)->Arg(1 << 20)->Arg(1 << 26);

#ifdef VM_HAVE_LIBNUMA
void libnuma_onnode(benchmark::State& state) {
  const auto size = static_cast<std::uint64_t>(state.range(0));
  if (numa_available() < 0) return state.SkipWithError("libnuma does not work here");
  for (auto _ : state) {
    void* data = numa_alloc_onnode(size, first_node());
    touch(data, size);
    numa_free(data, size);
  }
  count_pages(state);
}
BENCHMARK(libnuma_onnode)->Arg(1 << 16)->Arg(1 << 20)->Arg(1 << 26);
#endif

/// move_pages over this many pages at once, into arrays that are there.
void bare_move_pages(benchmark::State& state) {
  std::vector<void*> pages(static_cast<std::size_t>(state.range(0)));
  const auto block = allocator().allocate_on_node(pages.size() * page, first_node(), {HugePages::none, false});
  std::vector<int> status(pages.size());
  for (std::size_t i = 0; i < pages.size(); ++i) pages[i] = block->data() + i * page;
  for (auto _ : state) {
    if (::syscall(SYS_move_pages, 0, pages.size(), pages.data(), nullptr, status.data(), 0) != 0) {
      return state.SkipWithError("move_pages refused");
    }
    benchmark::DoNotOptimize(status.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(bare_move_pages)->Arg(1 << 8)->Arg(1 << 14);

void placement(benchmark::State& state) {
  const std::uint64_t size = static_cast<std::uint64_t>(state.range(0)) * page;
  const auto block = allocator().allocate_on_node(size, first_node(), {HugePages::none, false});
  for (auto _ : state) benchmark::DoNotOptimize(block->placement());
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(placement)->Arg(1 << 8)->Arg(1 << 14);

/// Of a replicated block, the copy that is near: what a reader pays each time.
void nearest_replica(benchmark::State& state) {
  const auto replicas = allocator().allocate_replicated(page);
  for (auto _ : state) benchmark::DoNotOptimize(replicas->local().get());
}
BENCHMARK(nearest_replica);

void bare_getcpu(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(::sched_getcpu());
}
BENCHMARK(bare_getcpu);

/// A chain of dependent loads through memory of the node at this position, read from the first node's CPU.
void read_latency(benchmark::State& state) {
  const auto nodes = allocator().decide(NumaPolicy::interleave()).nodes;
  const auto position = static_cast<std::size_t>(state.range(0));
  if (position >= nodes.size()) return state.SkipWithError("this machine has one node");
  cpu_set_t before;
  ::sched_getaffinity(0, sizeof before, &before);
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(allocator().topology().allowed_cpus.front()), &one);
  ::sched_setaffinity(0, sizeof one, &one);
  constexpr std::size_t lines = std::size_t{1} << 21;  // of 64 bytes: 128 MiB, beyond any cache
  const auto block = allocator().allocate_on_node(lines * 64, nodes[position]);
  std::vector<std::uint32_t> order(lines);
  std::iota(order.begin(), order.end(), 0U);
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  auto* words = reinterpret_cast<std::uint32_t*>(block->data());
  for (std::size_t i = 0; i < lines; ++i) words[std::size_t{order[i]} * 16] = order[(i + 1) % lines];
  std::uint32_t at = 0;
  for (auto _ : state) {
    at = words[std::size_t{at} * 16];
    benchmark::DoNotOptimize(at);
  }
  ::sched_setaffinity(0, sizeof before, &before);
}
BENCHMARK(read_latency)->Arg(0)->Arg(1);

}  // namespace
