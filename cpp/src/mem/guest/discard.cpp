// Pages taken back from guest memory and given to it.
#include <algorithm>
#include <string>

#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::mem {

namespace {

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
