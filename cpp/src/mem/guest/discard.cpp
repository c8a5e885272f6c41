// Pages taken back from guest memory and given to it: madvise, fallocate, mincore.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

#include "mem/guest/file.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14, younger than Debian 12's C library
#endif

namespace vm::mem {

namespace {

std::uint64_t page_size() noexcept { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

/// Calls use(region, offset of the piece in region.mapping, bytes) for every piece of a range that lies in regions.
template <class Use>
void for_each_mapped(const RegionTable& table, std::uint64_t paddr, std::uint64_t size, Use use) {
  for (std::uint64_t done = 0; done < size;) {
    const Region& region = *table.find(paddr + done);
    const std::uint64_t offset = paddr + done - region.base;
    const std::uint64_t count = std::min(size - done, region.size - offset);
    if (region.mapping == nullptr) {
      throw NotSupported("region " + hex(region.base) + "-" + hex(region.last()) + " (" + region.name +
                         ") does not say what it is mapped from, so its pages cannot be handled");
    }
    use(region, static_cast<std::uint64_t>(region.host - region.mapping->data()) + offset, count);
    done += count;
  }
}

void check_discard(const Region& region, std::uint64_t offset, std::uint64_t size) {
  const std::string name = "region " + hex(region.base) + "-" + hex(region.last()) + " (" + region.name + ")";
  if (region.mapping->filler() != nullptr) {
    throw NotSupported("the pages of " + name +
                       " come from a page source and would come back; LazyMemory.discard forgets them");
  }
  const std::uint64_t unit = region.mapping->discard_unit();
  if (unit == 0) {
    throw NotSupported("the pages of " + name +
                       " cannot be given back: what they hold lives in a file; use anonymous memory or a memfd");
  }
  if (offset % unit != 0 || size % unit != 0) {
    throw InvalidConfig("a discard in " + name + " begins and ends at pages of " + hex(unit) + " bytes, got " +
                        hex(size) + " bytes at offset " + hex(offset) + " of its memory");
  }
}

}  // namespace

void HostMapping::discard(std::uint64_t offset, std::uint64_t size) {
  const std::string what = "giving back " + hex(size) + " bytes";
  if (fd() < 0) {
    // Private memory has no other owner: dropping the pages is enough.
    if (::madvise(data_ + offset, size, MADV_DONTNEED) == 0) return;
    if (errno == EINVAL && discard_unit_ != page_size())
      throw NotSupported(what + ": this kernel drops no huge pages (Linux 5.18 does); use a memfd");
    throw_system_error(what + " (madvise)", errno);
  }
  // Dropping shared pages from this mapping would leave them in the object.
  int result = -1;
  do {
    result = ::fallocate(fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(file_offset_ + offset),
                         static_cast<off_t>(size));
  } while (result != 0 && errno == EINTR);
  if (result != 0) throw_system_error(what + " (fallocate)", errno);
}

void HostMapping::populate(std::uint64_t offset, std::uint64_t size) {
  const auto address = reinterpret_cast<std::uintptr_t>(data_) + offset;
  const std::uintptr_t start = align_down(address, page_size());
  int result = -1;
  do {
    result = ::madvise(reinterpret_cast<void*>(start), address + size - start, MADV_POPULATE_WRITE);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return;
  const std::string what = "populating " + hex(size) + " bytes";
  if (errno == EINVAL) throw NotSupported(what + " needs Linux 5.14 (MADV_POPULATE_WRITE); touch the pages instead");
  if (errno == ENOMEM) throw ResourceExhausted(what + ": the system has no memory for it");
  throw_system_error(what + " (madvise)", errno);
}

std::uint64_t HostMapping::resident(std::uint64_t offset, std::uint64_t size) const {
  const std::uint64_t page = page_size();
  const auto address = reinterpret_cast<std::uintptr_t>(data_) + offset;
  const std::uintptr_t end = align_up(address + size, page);
  std::array<unsigned char, 4096> present;
  std::uint64_t pages = 0;
  for (std::uintptr_t at = align_down(address, page); at < end;) {
    const std::uint64_t count = std::min<std::uint64_t>((end - at) / page, present.size());
    if (::mincore(reinterpret_cast<void*>(at), count * page, present.data()) != 0)
      throw_system_error("mincore of " + hex(count * page) + " bytes", errno);
    for (std::uint64_t i = 0; i < count; ++i) pages += present[i] & 1U;
    at += count * page;
  }
  return pages * page;
}

void GuestMemory::require_discardable(std::uint64_t paddr, std::uint64_t size) const {
  const auto regions = table();
  regions->require_writable(paddr, size, "discard");
  for_each_mapped(*regions, paddr, size, check_discard);
}

void GuestMemory::discard(std::uint64_t paddr, std::uint64_t size) {
  const auto regions = table();
  regions->require_writable(paddr, size, "discard");
  for_each_mapped(*regions, paddr, size, check_discard);
  for_each_mapped(*regions, paddr, size, [](const Region& region, std::uint64_t offset, std::uint64_t count) {
    region.mapping->discard(offset, count);
  });
}

void GuestMemory::populate(std::uint64_t paddr, std::uint64_t size) {
  const auto regions = table();
  regions->require_writable(paddr, size, "populate");
  regions->require_present(paddr, size);
  for_each_mapped(*regions, paddr, size, [](const Region& region, std::uint64_t offset, std::uint64_t count) {
    region.mapping->populate(offset, count);
  });
}

std::uint64_t GuestMemory::resident(std::uint64_t paddr, std::uint64_t size) const {
  const auto regions = table();
  regions->require(paddr, size, "resident");
  std::uint64_t bytes = 0;
  for_each_mapped(*regions, paddr, size, [&bytes](const Region& region, std::uint64_t offset, std::uint64_t count) {
    bytes += region.mapping->resident(offset, count);
  });
  return bytes;
}

}  // namespace vm::mem
