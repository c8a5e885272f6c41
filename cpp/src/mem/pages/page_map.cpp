#include "mem/pages/page_map.hpp"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <sstream>
#include <string>

#include "mem/pages/pagemap_abi.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"
#include "vm/mem/pages/unique_fd.hpp"

namespace vm::mem {

namespace {

constexpr std::uint64_t kib = 1024;

/// "7f0c00000000-7f0c00021000 rw-p 00000000 00:00 0   [name]": false for every other line of smaps.
bool parse_area(const std::string& line, MappedArea& area) {
  std::istringstream words(line);
  char dash = 0;
  std::string rights;
  if (!(words >> std::hex >> area.start >> dash >> area.end >> rights) || dash != '-' || rights.size() != 4) {
    return false;
  }
  area.access = Access::none;
  if (rights[0] == 'r') area.access |= Access::read;
  if (rights[1] == 'w') area.access |= Access::write;
  if (rights[2] == 'x') area.access |= Access::execute;
  return true;
}

/// "Rss:      12 kB" and its like.
void parse_fact(const std::string& line, MappedArea& area) {
  const std::size_t colon = line.find(':');
  if (colon == std::string::npos) return;
  const std::string name = line.substr(0, colon);
  std::istringstream words(line.substr(colon + 1));
  if (name == "VmFlags") {
    for (std::string flag; words >> flag;) area.locked = area.locked || flag == "lo";
    return;
  }
  std::uint64_t number = 0;
  if (!(words >> number)) return;
  if (name == "KernelPageSize") area.page_size = number * kib;
  if (name == "Rss") area.resident = number * kib;
  if (name == "AnonHugePages" || name == "ShmemPmdMapped" || name == "FilePmdMapped") area.huge += number * kib;
  // Reserved pages are in none of the counts above.
  if (name == "Private_Hugetlb" || name == "Shared_Hugetlb") {
    area.resident += number * kib;
    area.huge += number * kib;
  }
}

}  // namespace

std::optional<PageTally> scan_pages(std::uintptr_t start, std::uintptr_t end) {
  const UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap) return std::nullopt;
  std::array<abi::PageRun, 512> runs;
  abi::PagemapScan scan = {};
  scan.size = sizeof scan;
  scan.start = start;
  scan.end = end;
  scan.vec = reinterpret_cast<std::uintptr_t>(runs.data());
  scan.vec_len = runs.size();
  scan.category_inverted = abi::page_is_zero_page;
  scan.category_mask = abi::page_is_present | abi::page_is_zero_page;
  scan.return_mask = abi::page_is_present | abi::page_is_huge;
  PageTally tally;
  while (scan.start < scan.end) {
    const int count = ::ioctl(pagemap.get(), abi::ioctl_pagemap_scan, &scan);
    if (count < 0 && errno == EINTR) continue;
    // The last is what emulated kernels say to a request that they do not know.
    if (count < 0 && (errno == ENOTTY || errno == EINVAL || errno == ENOSYS)) return std::nullopt;
    if (count < 0) throw_system_error("PAGEMAP_SCAN of " + hex(end - start) + " bytes", errno);
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      const std::uint64_t length = runs[i].end - runs[i].start;
      tally.resident += length;
      if ((runs[i].categories & abi::page_is_huge) != 0) tally.huge += length;
    }
    scan.start = scan.walk_end;
  }
  return tally;
}

std::uint64_t resident_bytes(std::uintptr_t start, std::uintptr_t end) {
  const std::uint64_t page = host_page_size();
  std::array<unsigned char, 4096> present;
  std::uint64_t pages = 0;
  for (std::uintptr_t at = start; at < end;) {
    const std::uint64_t count = std::min<std::uint64_t>((end - at) / page, present.size());
    if (::mincore(reinterpret_cast<void*>(at), count * page, present.data()) != 0)
      throw_system_error("mincore of " + hex(count * page) + " bytes", errno);
    for (std::uint64_t i = 0; i < count; ++i) pages += present[i] & 1U;
    at += count * page;
  }
  return pages * page;
}

std::vector<MappedArea> mapped_areas(std::uintptr_t start, std::uintptr_t end) {
  std::ifstream file("/proc/self/smaps");
  if (!file) throw_system_error("cannot read /proc/self/smaps", ENOENT);
  std::vector<MappedArea> areas;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    MappedArea area;
    if (!parse_area(line, area)) {
      if (inside) parse_fact(line, areas.back());
      continue;
    }
    if (area.start >= end) break;
    inside = area.end > start;
    if (inside) areas.push_back(area);
  }
  return areas;
}

PageTally tally_areas(const std::vector<MappedArea>& areas, std::uintptr_t start, std::uintptr_t end, bool& certain) {
  PageTally tally;
  for (const MappedArea& area : areas) {
    const std::uint64_t first = std::max<std::uint64_t>(area.start, start);
    const std::uint64_t last = std::min<std::uint64_t>(area.end, end);
    const std::uint64_t resident = resident_bytes(first, last);
    tally.resident += resident;
    if (first == area.start && last == area.end) {
      tally.huge += area.huge;
    } else if (area.huge == area.resident) {
      tally.huge += resident;
    } else if (area.huge != 0) {
      certain = false;
    }
  }
  return tally;
}

}  // namespace vm::mem
