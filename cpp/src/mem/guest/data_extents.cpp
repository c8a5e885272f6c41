// Linux: lseek SEEK_DATA for files, /proc/self/pagemap for anonymous memory.
#include "mem/guest/data_extents.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include "vm/mem/pages/host_page.hpp"

namespace vm::mem {

namespace {

// Documentation/admin-guide/mm/pagemap.rst: bit 63 page present, bit 62 page swapped; 8 bytes for each page.
constexpr std::uint64_t page_in_use = std::uint64_t{3} << 62;
constexpr std::size_t entries_per_read = 4096;
// A shorter hole is not worth another look at the page map; its zeros are found when they are read.
constexpr std::uint64_t pages_of_a_hole = 512;

}  // namespace

DataExtents::DataExtents(const HostMapping& mapping) : mapping_(mapping) {
  if (mapping.copied_on_write()) return;  // a page without a private copy is not zeros
  if (mapping.fd() < 0) {
    page_map_ = UniqueFd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  } else {
    // A file description of its own: lseek would move the position of every process that shares the memfd.
    file_ = UniqueFd(::open(("/proc/self/fd/" + std::to_string(mapping.fd())).c_str(), O_RDONLY | O_CLOEXEC));
  }
}

Extent DataExtents::next(std::uint64_t begin, std::uint64_t end) const {
  if (file_) return next_in_file(begin, end);
  if (page_map_) return next_in_memory(begin, end);
  return {begin, end};
}

Extent DataExtents::next_in_file(std::uint64_t begin, std::uint64_t end) const {
  const std::uint64_t start = mapping_.file_offset();
  const off_t data = ::lseek(file_.get(), static_cast<off_t>(start + begin), SEEK_DATA);
  if (data < 0) return errno == ENXIO ? Extent{end, end} : Extent{begin, end};
  const std::uint64_t first = std::max(begin, static_cast<std::uint64_t>(data) - start);
  if (first >= end) return {end, end};
  const off_t hole = ::lseek(file_.get(), data, SEEK_HOLE);
  if (hole < 0) return {first, end};
  return {first, std::min(end, static_cast<std::uint64_t>(hole) - start)};
}

Extent DataExtents::next_in_memory(std::uint64_t begin, std::uint64_t end) const {
  const std::uint64_t page = host_page_size();
  const auto address = reinterpret_cast<std::uintptr_t>(mapping_.data());
  const std::uint64_t stop = (address + end + page - 1) / page;
  std::uint64_t number = (address + begin) / page;
  std::uint64_t first = stop;  // of the extent, once it has begun
  std::uint64_t used_end = stop;
  const auto start_of = [&](std::uint64_t n) { return n * page > address + begin ? n * page - address : begin; };
  std::array<std::uint64_t, entries_per_read> entries;
  while (number < stop) {
    const std::uint64_t wanted = std::min<std::uint64_t>(entries.size(), stop - number);
    const ssize_t got = ::pread(page_map_.get(), entries.data(), wanted * 8, static_cast<off_t>(number * 8));
    if (got < 8) return {begin, end};
    for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(got) / 8; ++i, ++number) {
      if ((entries[i] & page_in_use) != 0) {
        first = std::min(first, number);
        used_end = number + 1;
      } else if (first != stop && number - used_end >= pages_of_a_hole) {
        return {start_of(first), used_end * page - address};
      }
    }
  }
  if (first == stop) return {end, end};
  return {start_of(first), std::min(end, used_end * page - address)};
}

}  // namespace vm::mem
