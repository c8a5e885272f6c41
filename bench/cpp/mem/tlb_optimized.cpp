// What a hit of MultiLevelTlb costs, beside the probe that anybody would write first: a direct-mapped software TLB as
// in QEMU's cputlb.c (index by the page number, compare one tag, add), of as many entries as the first level, without
// contexts, page sizes, rights, recency or statistics.
//
// The first argument of each benchmark is the number of entries of the first level. Times are per look-up
// (items_per_second is the inverse). "_order" visits the pages in order, the others at random.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "vm/mem/tlb/batch_level.hpp"
#include "vm/mem/tlb/multi_level_tlb.hpp"

namespace {

using vm::mem::tlb::BatchLevel;
using vm::mem::tlb::Context;
using vm::mem::tlb::Entry;
using vm::mem::tlb::Hit;
using vm::mem::tlb::MultiLevelTlb;
using vm::mem::tlb::PackedHit;
using vm::mem::tlb::TlbConfig;

constexpr std::uint64_t page = 4096;
constexpr std::size_t batch = 4096;
constexpr std::uint64_t base = 0x7F00'0000'0000;

// As QEMU's CPUTLBEntry: 32 bytes.
struct DirectMapped {
  struct Slot {
    std::uint64_t tag = UINT64_MAX;
    std::uint64_t addend = 0;
    std::uint64_t unused[2] = {};
  };

  explicit DirectMapped(std::size_t entries) : slots(entries), mask(entries - 1) {}

  void insert(std::uint64_t vaddr, std::uint64_t paddr) {
    slots[vaddr / page & mask] = {vaddr & ~(page - 1), paddr - vaddr, {}};
  }
  bool find(std::uint64_t vaddr, std::uint64_t& paddr) const {
    const Slot& slot = slots[vaddr / page & mask];
    if (slot.tag != (vaddr & ~(page - 1))) return false;
    paddr = vaddr + slot.addend;
    return true;
  }

  std::vector<Slot> slots;
  std::uint64_t mask;
};

std::uint64_t frame_of(std::uint64_t vaddr) { return (vaddr ^ 0x5A5A'5000) & 0x000F'FFFF'FFFF'FFFF; }

// `batch` addresses in the pages [first, first + pages).
std::vector<std::uint64_t> addresses(std::size_t first, std::size_t pages, bool in_order) {
  std::mt19937_64 random(20260101);
  std::vector<std::uint64_t> result(batch);
  for (std::size_t i = 0; i < batch; ++i) {
    const std::size_t which = in_order ? i % pages : random() % pages;
    result[i] = base + (first + which) * page + random() % page;
  }
  return result;
}

void insert_pages(MultiLevelTlb& tlb, std::size_t first, std::size_t pages, Context context) {
  for (std::size_t i = first; i < first + pages; ++i) {
    Entry e;
    e.vaddr = base + i * page;
    e.paddr = frame_of(e.vaddr);
    e.rights = e.usable = 7;
    e.context = context;
    tlb.insert(e, tlb.begin_fill());
  }
}

TlbConfig shape(std::int64_t l1) {
  TlbConfig config;
  config.l1_size = static_cast<std::uint32_t>(l1);
  config.l2_size = 2048;
  config.l3_size = 16384;
  return config;
}

void finish(benchmark::State& state) { state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch)); }

void bm_naive(benchmark::State& state, bool in_order) {
  const auto pages = static_cast<std::size_t>(state.range(0));
  DirectMapped naive(pages);
  for (std::size_t i = 0; i < pages; ++i) naive.insert(base + i * page, frame_of(base + i * page));
  const std::vector<std::uint64_t> vaddr = addresses(0, pages, in_order);
  std::vector<std::uint64_t> paddr(batch);
  for (auto _ : state) {
    for (std::size_t i = 0; i < batch; ++i)
      if (!naive.find(vaddr[i], paddr[i])) paddr[i] = UINT64_MAX;
    benchmark::DoNotOptimize(paddr.data());
    benchmark::ClobberMemory();
  }
  for (std::size_t i = 0; i < batch; ++i)
    if (paddr[i] != frame_of(vaddr[i])) state.SkipWithError("wrong answer");
  finish(state);
}

// One `find` after another, inlined, as an interpreter of guest code would.
void bm_find(benchmark::State& state, std::size_t first, std::size_t pages, bool in_order) {
  if (pages == 0) pages = static_cast<std::size_t>(state.range(0));
  const Context context{3, 1};
  MultiLevelTlb tlb(shape(state.range(0)));
  insert_pages(tlb, first, pages, context);
  const std::vector<std::uint64_t> vaddr = addresses(first, pages, in_order);
  std::vector<std::uint64_t> paddr(batch);
  for (auto _ : state) {
    for (std::size_t i = 0; i < batch; ++i) {
      Hit hit;
      paddr[i] = tlb.find(vaddr[i], context, hit) ? hit.paddr : UINT64_MAX;
    }
    benchmark::DoNotOptimize(paddr.data());
    benchmark::ClobberMemory();
  }
  for (std::size_t i = 0; i < batch; ++i)
    if (paddr[i] != frame_of(vaddr[i])) state.SkipWithError("wrong answer");
  finish(state);
}

void bm_batch(benchmark::State& state, bool in_order, bool with_facts) {
  const auto pages = static_cast<std::size_t>(state.range(0));
  const Context context{3, 1};
  MultiLevelTlb tlb(shape(state.range(0)));
  insert_pages(tlb, 0, pages, context);
  const std::vector<std::uint64_t> vaddr = addresses(0, pages, in_order);
  std::vector<std::uint64_t> paddr(batch);
  std::vector<PackedHit> facts(batch);
  std::size_t hits = 0;
  for (auto _ : state) {
    hits = tlb.lookup(vaddr.data(), batch, context, paddr.data(), with_facts ? facts.data() : nullptr);
    benchmark::ClobberMemory();
  }
  for (std::size_t i = 0; i < batch; ++i)
    if (paddr[i] != frame_of(vaddr[i])) state.SkipWithError("wrong answer");
  if (hits != batch || tlb.stats().levels[0].misses != 0) state.SkipWithError("not all of it were L1 hits");
  finish(state);
}

// The level that large arrays have in an Mmu. Its answers are addresses and 16 bits of facts; what misses is listed.
void bm_array(benchmark::State& state, vm::mem::tlb::detail::BatchProbe probe) {
  if (probe == nullptr) return state.SkipWithError("this build has no such kernel");
  const auto pages = static_cast<std::size_t>(state.range(0));
  BatchLevel level({3, 1}, 12, probe);
  for (std::size_t i = 0; i < pages; ++i) level.vote(base + i * page, frame_of(base + i * page), 0, 12);
  const std::vector<std::uint64_t> vaddr = addresses(0, pages, false);
  constexpr std::size_t slack = vm::mem::tlb::detail::batch_probe_slack;
  std::vector<std::uint64_t> paddr(batch), missed_vaddr(batch + slack);
  std::vector<std::uint16_t> facts(batch);
  std::vector<std::uint32_t> missed(batch + slack);
  std::size_t misses = 0;
  for (auto _ : state) {
    misses = level.lookup(vaddr.data(), batch, paddr.data(), facts.data(), missed.data(), missed_vaddr.data(), 0);
    benchmark::ClobberMemory();
  }
  for (std::size_t i = 0; i < batch; ++i)
    if (paddr[i] != frame_of(vaddr[i])) state.SkipWithError("wrong answer");
  if (misses != 0) state.SkipWithError("not all of it were hits");
  finish(state);
}

// Addresses that no level has.
void bm_miss(benchmark::State& state) {
  const Context context{3, 1};
  MultiLevelTlb tlb(shape(state.range(0)));
  insert_pages(tlb, 0, 20000, context);
  const std::vector<std::uint64_t> vaddr = addresses(100'000, 20000, false);
  std::vector<std::uint64_t> paddr(batch);
  for (auto _ : state) {
    benchmark::DoNotOptimize(tlb.lookup(vaddr.data(), batch, context, paddr.data()));
    benchmark::ClobberMemory();
  }
  finish(state);
}

BENCHMARK_CAPTURE(bm_naive, order, true)->Name("naive_unchecked_order")->Arg(64)->Arg(256);
BENCHMARK_CAPTURE(bm_naive, random, false)->Name("naive_unchecked")->Arg(64)->Arg(256);
BENCHMARK_CAPTURE(bm_batch, order, true, false)->Name("l1_hit_batch_order")->Arg(64)->Arg(256);
BENCHMARK_CAPTURE(bm_batch, random, false, false)->Name("l1_hit_batch")->Arg(64)->Arg(256);
BENCHMARK_CAPTURE(bm_batch, facts, false, true)->Name("l1_hit_batch_with_facts")->Arg(64)->Arg(256);
BENCHMARK_CAPTURE(bm_array, best, vm::mem::tlb::detail::best_batch_probe())->Name("array_level")->Arg(64)->Arg(4096);
BENCHMARK_CAPTURE(bm_array, baseline, vm::mem::tlb::detail::baseline_batch_probe)
    ->Name("array_level_baseline")
    ->Arg(64)
    ->Arg(4096);
BENCHMARK_CAPTURE(bm_find, l1_order, 0, 0, true)->Name("l1_hit_find_order")->Arg(64)->Arg(256);
BENCHMARK_CAPTURE(bm_find, l1, 0, 0, false)->Name("l1_hit_find")->Arg(64)->Arg(256);
// In order and through more pages than a level has, least recently used always misses there.
BENCHMARK_CAPTURE(bm_find, l2, 0, 2048, true)->Name("l2_hit_find_order")->Arg(64)->Arg(256);
BENCHMARK_CAPTURE(bm_find, l3, 0, 4096, true)->Name("l3_hit_find_order")->Arg(64)->Arg(256);
BENCHMARK(bm_miss)->Name("miss_batch")->Arg(64)->Arg(256);

}  // namespace
