// Translation of random addresses through real x86 4-level tables, four footprints, every engine, beside the loop that
// anybody would write first: bounds and present checks only, no rights, no page sizes, no fault reasons.
//
// Arguments of each benchmark: the case (0 = A ... 3 = D). Times are per address (items_per_second is the inverse).

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace {

using vm::mem::GuestMemory;
using vm::mem::paging::AddressSpace;
using vm::mem::paging::BatchRequest;
using vm::mem::paging::Engine;
using vm::mem::paging::PackedInfo;
using vm::mem::paging::X86Config;

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t root = 0x1000;
constexpr std::uint64_t entry_flags = 0x67;  // present, writable, user, accessed, dirty
constexpr std::size_t batch = std::size_t{1} << 22;

struct Shape {
  const char* name;
  std::uint64_t image;  // bytes of guest memory that hold the tables
  std::uint64_t pages;  // mapped
  std::uint64_t every;  // one page in so many is mapped
};
constexpr Shape shapes[] = {
    {"A: 32 MiB mapped", std::uint64_t{64} << 20, 8192, 1},
    {"B: 4 GiB dense", std::uint64_t{32} << 20, std::uint64_t{1} << 20, 1},
    {"C: 4 GiB, one page in 8", std::uint64_t{80} << 20, std::uint64_t{1} << 20, 8},
    {"D: 64 GiB dense", std::uint64_t{160} << 20, std::uint64_t{1} << 24, 1},
};

// Guest memory with tables that map `pages` pages to scattered frames, and random addresses in them.
struct Image {
  explicit Image(const Shape& shape) : memory(GuestMemory::anonymous(shape.image)) {
    bytes = memory->view(0, shape.image).host;
    size = shape.image;
    std::mt19937_64 random(20260101);
    for (std::uint64_t i = 0; i < shape.pages; ++i) map(i * shape.every * page, (random() >> 28) & ~(page - 1));
    addresses.resize(batch);
    for (std::uint64_t& address : addresses) {
      const std::uint64_t r = random();
      address = (r >> 12) % shape.pages * shape.every * page + (r & (page - 1));
    }
    space = std::make_unique<AddressSpace>(memory, X86Config{4, root});
  }

  void map(std::uint64_t vaddr, std::uint64_t paddr) {
    std::uint64_t table = root;
    for (int shift = 39; shift > 12; shift -= 9) {
      std::uint64_t& entry = at(table, vaddr >> shift & 511);
      if (entry == 0) {
        entry = next_table | entry_flags;
        next_table += page;
      }
      table = entry & ~(page - 1);
    }
    at(table, vaddr >> 12 & 511) = paddr | entry_flags;
  }
  std::uint64_t& at(std::uint64_t table, std::uint64_t index) {
    return reinterpret_cast<std::uint64_t*>(bytes + table)[index];
  }

  std::shared_ptr<GuestMemory> memory;
  std::byte* bytes = nullptr;
  std::uint64_t size = 0;
  std::uint64_t next_table = 2 * root;
  std::vector<std::uint64_t> addresses;
  std::unique_ptr<AddressSpace> space;
};

Image& image(std::int64_t which) {
  static std::map<std::int64_t, std::unique_ptr<Image>> images;
  std::unique_ptr<Image>& slot = images[which];
  if (slot == nullptr) {
    for (auto& other : images) other.second.reset();  // one at a time: D alone is 160 MiB
    slot = std::make_unique<Image>(shapes[which]);
  }
  return *slot;
}

// The baseline.
std::uint64_t naive(const std::byte* bytes, std::uint64_t size, std::uint64_t vaddr) {
  std::uint64_t table = root;
  for (int shift = 39; shift >= 12; shift -= 9) {
    const std::uint64_t at = table + (vaddr >> shift & 511) * 8;
    if (at + 8 > size) return UINT64_MAX;
    std::uint64_t entry;
    std::memcpy(&entry, bytes + at, sizeof entry);
    if ((entry & 1) == 0) return UINT64_MAX;
    table = entry & 0x000F'FFFF'FFFF'F000;
  }
  return table | (vaddr & (page - 1));
}

void bm_naive(benchmark::State& state) {
  const Image& i = image(state.range(0));
  std::vector<std::uint64_t> paddr(batch);
  for (auto _ : state) {
    for (std::size_t k = 0; k < batch; ++k) paddr[k] = naive(i.bytes, i.size, i.addresses[k]);
    benchmark::DoNotOptimize(paddr.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
  state.SetLabel(shapes[state.range(0)].name);
}

void bm_engine(benchmark::State& state, Engine engine) {
  const Image& i = image(state.range(0));
  std::vector<std::uint64_t> paddr(batch);
  std::vector<PackedInfo> info(batch);
  BatchRequest request;
  request.engine = engine;
  try {
    for (auto _ : state) {
      i.space->translate(i.addresses.data(), batch, paddr.data(), info.data(), request);
      benchmark::ClobberMemory();
    }
  } catch (const vm::VmError& error) {
    state.SkipWithError(error.what());
    return;
  }
  for (std::size_t k = 0; k < batch; ++k)
    if (paddr[k] != naive(i.bytes, i.size, i.addresses[k])) state.SkipWithError("answers differ from the baseline's");
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(batch));
  state.SetLabel(shapes[state.range(0)].name);
}

void bm_scalar(benchmark::State& state) {
  const Image& i = image(state.range(0));
  std::size_t k = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(i.space->try_translate(vm::GuestVirtual{i.addresses[k++ % batch]}));
  }
  state.SetItemsProcessed(state.iterations());
}

}  // namespace

BENCHMARK(bm_naive)->Name("naive_unchecked")->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bm_engine, automatic, Engine::automatic)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bm_engine, walk, Engine::walk)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bm_engine, leaf_cache, Engine::leaf_cache)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bm_engine, group_prefetch, Engine::group_prefetch)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bm_engine, avx2, Engine::avx2)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(bm_engine, avx512, Engine::avx512)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);
BENCHMARK(bm_scalar)->Name("scalar_try_translate")->DenseRange(0, 3);
