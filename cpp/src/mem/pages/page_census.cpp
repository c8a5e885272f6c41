#include "vm/mem/pages/page_census.hpp"

#include <algorithm>

#include "mem/pages/page_map.hpp"
#include "vm/core/address.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem {

PageCensus count_pages(const void* address, std::uint64_t size) {
  PageCensus census;
  if (size == 0) return census;
  const std::uint64_t page = host_page_size();
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  const std::uintptr_t start = align_down(first, page);
  const std::uintptr_t end = align_up(first + size, page);
  const std::vector<MappedArea> areas = mapped_areas(start, end);
  for (const MappedArea& area : areas) {
    const std::uint64_t length = std::min<std::uint64_t>(area.end, end) - std::max<std::uint64_t>(area.start, start);
    census.mapped += length;
    if (area.locked) census.locked += length;
    census.page_size = &area == &areas.front() || census.page_size == area.page_size ? area.page_size : 0;
  }
  const auto scanned = scan_pages(start, end);
  const PageTally tally = scanned ? *scanned : tally_areas(areas, start, end, census.huge_known);
  census.resident = tally.resident;
  census.huge = tally.huge;
  return census;
}

}  // namespace vm::mem
