#include "vm/accel/boot/memory_map.hpp"

#include <algorithm>
#include <string>

#include "vm/core/error.hpp"

namespace vm::accel::boot {
namespace {

constexpr std::uint64_t four_gib = std::uint64_t{4} << 30;

void add(std::vector<MemoryRange>& map, std::uint64_t base, std::uint64_t end, RangeType type) {
  if (base >= end) return;
  if (!map.empty() && map.back().type == type && map.back().base + map.back().size == base) {
    map.back().size += end - base;
  } else {
    map.push_back({base, end - base, type});
  }
}

}  // namespace

std::vector<MemoryRange> memory_map(const mem::GuestMemory& memory) {
  std::vector<MemoryRange> map;
  const auto table = memory.table();
  for (const mem::Region& region : table->regions()) {
    const std::uint64_t base = region.base, end = region.last() + 1;
    if (!region.writable) {
      add(map, base, end, RangeType::reserved);
      continue;
    }
    add(map, base, std::min(end, low_memory_end), RangeType::usable);
    add(map, std::max(base, low_memory_end), std::min(end, high_memory_start), RangeType::reserved);
    add(map, std::max(base, high_memory_start), end, RangeType::usable);
  }
  return map;
}

std::uint64_t contiguous_end(const std::vector<MemoryRange>& map) {
  for (const MemoryRange& range : map) {
    if (range.type == RangeType::usable && range.base <= high_memory_start &&
        range.base + range.size > high_memory_start)
      return std::min(range.base + range.size, four_gib);
  }
  return 0;
}

std::shared_ptr<mem::GuestMemory> pc_memory(std::uint64_t bytes) {
  constexpr std::uint64_t hole = std::uint64_t{3} << 30;
  if (bytes % 4096 != 0 || bytes < high_memory_start)
    throw InvalidConfig("a PC has memory in multiples of 4096 bytes, at least 1 MiB; got " + std::to_string(bytes));
  auto memory = mem::GuestMemory::anonymous(std::min(bytes, hole));
  if (bytes > hole) memory->add(*mem::GuestMemory::anonymous(bytes - hole, four_gib));
  return memory;
}

}  // namespace vm::accel::boot
