// One address at a time through the MMU in C++: hits of each strategy, beside a full walk and beside a direct-mapped
// software TLB as QEMU's cputlb.c has it (index, one compare, one addition; no rights for two privileges, one page
// size).

#include <benchmark/benchmark.h>

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "vm/mem/mmu/mmu.hpp"

namespace {

using vm::GuestVirtual;
using vm::mem::GuestMemory;
using vm::mem::Mmu;
using vm::mem::MmuConfig;
namespace paging = vm::mem::paging;
namespace tlb = vm::mem::tlb;

constexpr std::uint64_t base = std::uint64_t{1} << 30;
constexpr std::uint64_t page = 4096;

std::shared_ptr<GuestMemory> memory_with_tables(std::uint64_t pages) {
  auto memory = GuestMemory::anonymous(std::uint64_t{1} << 30);
  paging::X86Config config;
  config.root = 0x1000;
  paging::AddressSpace(memory, config)
      .map({base, 0x100'0000, pages * page, vm::Access::read | vm::Access::write, false, page});
  return memory;
}

std::vector<std::uint64_t> addresses(std::uint64_t pages) {
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> list(1 << 14);
  for (auto& address : list) address = base + random() % (pages * page);
  return list;
}

template <class Translate>
void run(benchmark::State& state, Translate&& translate) {
  const auto list = addresses(static_cast<std::uint64_t>(state.range(0)));
  for (const std::uint64_t address : list) benchmark::DoNotOptimize(translate(address));  // warm
  for (auto _ : state)
    for (const std::uint64_t address : list) benchmark::DoNotOptimize(translate(address));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(list.size()));
}

void qemu_style(benchmark::State& state) {
  struct Slot {
    std::uint64_t tag = UINT64_MAX;
    std::uint64_t addend = 0;
  };
  constexpr std::uint64_t slots = 4096;
  std::vector<Slot> table(slots);
  const paging::AddressSpace space(memory_with_tables(static_cast<std::uint64_t>(state.range(0))), [] {
    paging::X86Config config;
    config.root = 0x1000;
    return config;
  }());
  run(state, [&](std::uint64_t address) {
    Slot& slot = table[address / page % slots];
    if (slot.tag != address / page) slot = {address / page, space.translate(GuestVirtual(address)).paddr - address};
    return address + slot.addend;
  });
}

void address_space(benchmark::State& state) {
  paging::X86Config config;
  config.root = 0x1000;
  const paging::AddressSpace space(memory_with_tables(static_cast<std::uint64_t>(state.range(0))), config);
  run(state, [&](std::uint64_t address) { return space.try_translate(GuestVirtual(address)).paddr; });
}

void mmu(benchmark::State& state, tlb::Strategy strategy) {
  MmuConfig options;
  options.tlb.strategy = strategy;
  paging::X86Config config;
  config.root = 0x1000;
  Mmu unit(memory_with_tables(static_cast<std::uint64_t>(state.range(0))), config, options);
  run(state, [&](std::uint64_t address) { return unit.try_translate(GuestVirtual(address)).paddr; });
}

void load(benchmark::State& state, tlb::Strategy strategy) {
  MmuConfig options;
  options.tlb.strategy = strategy;
  paging::X86Config config;
  config.root = 0x1000;
  Mmu unit(memory_with_tables(static_cast<std::uint64_t>(state.range(0))), config, options);
  run(state,
      [&](std::uint64_t address) { return unit.load<std::uint32_t>(GuestVirtual(address & ~std::uint64_t{3})); });
}

// 48 pages: what a first level holds; 2048: a later level; 65536: mostly misses.
#define VM_FOOTPRINTS ->Arg(48)->Arg(2048)->Arg(65536)
BENCHMARK(qemu_style) VM_FOOTPRINTS;
BENCHMARK(address_space) VM_FOOTPRINTS;
BENCHMARK_CAPTURE(mmu, multi_level, tlb::Strategy::multi_level) VM_FOOTPRINTS;
BENCHMARK_CAPTURE(mmu, concurrent, tlb::Strategy::concurrent) VM_FOOTPRINTS;
BENCHMARK_CAPTURE(mmu, hybrid, tlb::Strategy::hybrid) VM_FOOTPRINTS;
BENCHMARK_CAPTURE(load, multi_level, tlb::Strategy::multi_level)->Arg(48);
BENCHMARK_CAPTURE(load, concurrent, tlb::Strategy::concurrent)->Arg(48);
BENCHMARK_CAPTURE(load, hybrid, tlb::Strategy::hybrid)->Arg(48);

}  // namespace
