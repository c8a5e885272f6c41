// What the checks of guest memory cost. Each measurement stands beside the same work without them: a bare pointer for
// finding a byte, std::map for finding a region, memcpy for copying.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "vm/mem/guest/memory.hpp"

namespace {

using vm::mem::GuestMemory;
using vm::mem::HostMapping;
using vm::mem::Region;
using vm::mem::RegionTable;

constexpr std::uint64_t region_size = 1 << 16;
constexpr std::size_t question_count = 1 << 14;

/// `count` regions with holes of their own size between them, all over the same host bytes.
RegionTable make_table(std::uint64_t count) {
  const auto mapping = HostMapping::anonymous(region_size);
  std::memset(mapping->data(), 1, region_size);  // real pages, not the kernel's one page of zeros
  std::vector<Region> regions;
  for (std::uint64_t i = 0; i < count; ++i) {
    regions.push_back({2 * i * region_size, region_size, mapping->data(), true, "bench", mapping});
  }
  return RegionTable(std::move(regions));
}

std::vector<std::uint64_t> random_addresses(std::uint64_t region_count) {
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> addresses(question_count);
  for (std::uint64_t& address : addresses) {
    address = random() % region_count * 2 * region_size + random() % (region_size - 8);
  }
  return addresses;
}

void count_questions(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(question_count));
}

void bare_pointer(benchmark::State& state) {
  const RegionTable table = make_table(1);
  const std::byte* host = table.regions().front().host;
  const std::vector<std::uint64_t> addresses = random_addresses(1);
  for (auto _ : state) {
    std::uint64_t sum = 0;
    for (const std::uint64_t address : addresses) sum += std::to_integer<std::uint64_t>(host[address]);
    benchmark::DoNotOptimize(sum);
  }
  count_questions(state);
}
BENCHMARK(bare_pointer);

void region_table_at(benchmark::State& state) {
  const auto count = static_cast<std::uint64_t>(state.range(0));
  const RegionTable table = make_table(count);
  const std::vector<std::uint64_t> addresses = random_addresses(count);
  for (auto _ : state) {
    std::uint64_t sum = 0;
    for (const std::uint64_t address : addresses) {
      const std::byte* host = table.at(address, 8);
      if (host != nullptr) sum += std::to_integer<std::uint64_t>(*host);
    }
    benchmark::DoNotOptimize(sum);
  }
  count_questions(state);
}
BENCHMARK(region_table_at)->Arg(1)->Arg(4)->Arg(64)->Arg(4096);

void std_map(benchmark::State& state) {
  const auto count = static_cast<std::uint64_t>(state.range(0));
  const RegionTable table = make_table(count);
  std::map<std::uint64_t, const Region*> map;
  for (const Region& region : table.regions()) map[region.base] = &region;
  const std::vector<std::uint64_t> addresses = random_addresses(count);
  for (auto _ : state) {
    std::uint64_t sum = 0;
    for (const std::uint64_t address : addresses) {
      const Region& region = *std::prev(map.upper_bound(address))->second;
      const std::uint64_t offset = address - region.base;
      if (offset + 8 <= region.size) sum += std::to_integer<std::uint64_t>(region.host[offset]);
    }
    benchmark::DoNotOptimize(sum);
  }
  count_questions(state);
}
BENCHMARK(std_map)->Arg(1)->Arg(4)->Arg(64)->Arg(4096);

constexpr std::int64_t smallest_copy = 8;
constexpr std::int64_t largest_copy = 1 << 20;

void plain_memcpy(benchmark::State& state) {
  const auto size = static_cast<std::uint64_t>(state.range(0));
  const auto mapping = HostMapping::anonymous(size);
  std::memset(mapping->data(), 1, size);
  std::vector<std::byte> target(size);
  for (auto _ : state) {
    std::memcpy(target.data(), mapping->data(), size);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(plain_memcpy)->RangeMultiplier(64)->Range(smallest_copy, largest_copy);

void guest_memory_read(benchmark::State& state) {
  const auto size = static_cast<std::uint64_t>(state.range(0));
  const auto memory = GuestMemory::anonymous(size);
  std::memset(memory->view(0, size).host, 1, size);
  std::vector<std::byte> target(size);
  for (auto _ : state) {
    memory->read(0, target.data(), size);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(guest_memory_read)->RangeMultiplier(64)->Range(smallest_copy, largest_copy);

/// Opening must not depend on the size: range(0) is in GiB.
void open_sparse_raw_image(benchmark::State& state) {
  std::string directory = (std::filesystem::temp_directory_path() / "vm-bench-XXXXXX").string();
  if (::mkdtemp(directory.data()) == nullptr) return state.SkipWithError("no temporary directory");
  const std::string path = directory + "/image";
  std::ofstream(path).close();
  std::filesystem::resize_file(path, static_cast<std::uint64_t>(state.range(0)) << 30);
  for (auto _ : state) benchmark::DoNotOptimize(GuestMemory::open(path));
  std::filesystem::remove_all(directory);
}
BENCHMARK(open_sparse_raw_image)->Arg(1)->Arg(64)->Unit(benchmark::kMicrosecond);

}  // namespace
