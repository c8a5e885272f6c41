#pragma once
/// \file
/// What a guest is told about its memory: the ranges of an E820 map, from the regions that it has.

#include <cstdint>
#include <memory>
#include <vector>

#include "vm/mem/guest/memory.hpp"

namespace vm::accel::boot {

/// The types of an E820 entry (ACPI 6.5, §15 "System Address Map Interfaces"); multiboot and PVH use the same.
enum class RangeType : std::uint32_t { usable = 1, reserved = 2 };

struct MemoryRange {
  std::uint64_t base = 0;
  std::uint64_t size = 0;
  RangeType type = RangeType::usable;
};

/// Where the memory that real mode can use freely ends (the extended BIOS data area of a PC begins there), and where
/// the memory behind the holes of a PC begins.
inline constexpr std::uint64_t low_memory_end = 0x9FC00;
inline constexpr std::uint64_t high_memory_start = 0x100000;

/// By address: the writable regions as usable memory, without what lies between the two marks above, which is reserved
/// where there is memory; read-only regions are reserved.
std::vector<MemoryRange> memory_map(const mem::GuestMemory& memory);

/// The end of the usable memory that begins at or below 1 MiB and goes on without a hole, at most 4 GiB; 0 when there
/// is none.
std::uint64_t contiguous_end(const std::vector<MemoryRange>& map);

/// Memory for a guest of `bytes`, as a PC has it: from 0, with a hole of 1 GiB below 4 GiB for devices. Throws
/// InvalidConfig unless `bytes` is a multiple of 4096 and at least 1 MiB.
std::shared_ptr<mem::GuestMemory> pc_memory(std::uint64_t bytes);

}  // namespace vm::accel::boot
