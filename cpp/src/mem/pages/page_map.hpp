#pragma once
/// \file
/// The kernel's own account of memory: PAGEMAP_SCAN, mincore(2) and /proc/self/smaps.

#include <cstdint>
#include <optional>
#include <vector>

#include "vm/core/access.hpp"

namespace vm::mem {

/// Bytes of a range by what its pages are.
struct PageTally {
  std::uint64_t resident = 0;
  std::uint64_t huge = 0;
};

/// Nothing before Linux 6.7. `start` and `end` are multiples of the page size. Throws PlatformError.
std::optional<PageTally> scan_pages(std::uintptr_t start, std::uintptr_t end);

/// Bytes of [start, end), page-aligned and mapped, that are in memory (mincore). Throws PlatformError.
std::uint64_t resident_bytes(std::uintptr_t start, std::uintptr_t end);

/// One line of /proc/self/maps with what smaps says about it.
struct MappedArea {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  Access access = Access::none;
  std::uint64_t page_size = 0;
  std::uint64_t resident = 0;
  std::uint64_t huge = 0;
  bool locked = false;
};

/// The mappings that touch [start, end), ascending. Throws PlatformError where there is no /proc.
std::vector<MappedArea> mapped_areas(std::uintptr_t start, std::uintptr_t end);

/// What `areas` and mincore say about [start, end); `certain` becomes false where a mapping of which only a part is
/// meant has some huge pages, but not only such. Throws PlatformError.
PageTally tally_areas(const std::vector<MappedArea>& areas, std::uintptr_t start, std::uintptr_t end, bool& certain);

}  // namespace vm::mem
