#pragma once
/// \file
/// Writing regions to a file: the formats compute a plan, one engine carries it out.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vm/mem/guest/memory.hpp"

namespace vm::mem {

/// A header at its place in the file.
struct HeaderBytes {
  std::uint64_t file_offset = 0;
  std::vector<std::byte> bytes;
};

struct SavePlan {
  std::vector<HeaderBytes> headers;
  std::vector<std::uint64_t> region_offsets;  ///< in the file, one for each region
  std::uint64_t file_size = 0;
};

/// Each throws InvalidConfig when the format cannot express these regions.
SavePlan plan_raw(const RegionTable& table);
SavePlan plan_lime(const RegionTable& table);
SavePlan plan_elf(const RegionTable& table, const ImageFacts& facts);

}  // namespace vm::mem
