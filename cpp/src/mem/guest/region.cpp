#include "vm/mem/guest/region.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/mapping.hpp"
#include "vm/mem/pages/page_filler.hpp"

namespace vm::mem {

namespace {

std::string range_text(std::uint64_t first, std::uint64_t last) { return hex(first) + "-" + hex(last); }

std::string region_text(const Region& region) {
  return "region " + range_text(region.base, region.last()) + " (" + region.name + ")";
}

std::string request_text(std::uint64_t paddr, std::uint64_t size, const char* what) {
  return std::string(what) + " of " + std::to_string(size) + " bytes at " + hex(paddr);
}

PageFiller* filler_of(const Region& region) noexcept {
  return region.mapping == nullptr ? nullptr : region.mapping->filler();
}

/// The first address of [paddr, last] that no region holds.
std::optional<std::uint64_t> first_hole(const RegionTable& table, std::uint64_t paddr, std::uint64_t last) {
  while (true) {
    const Region* region = table.find(paddr);
    if (region == nullptr) return paddr;
    if (region->last() >= last) return std::nullopt;
    paddr = region->last() + 1;
  }
}

/// "0xa0000-0xfffff": the whole hole around `paddr`, as far as the neighbouring regions.
std::string hole_text(const std::vector<Region>& regions, std::uint64_t paddr) {
  const auto next = std::upper_bound(regions.begin(), regions.end(), paddr,
                                     [](std::uint64_t address, const Region& region) { return address < region.base; });
  const std::uint64_t first = next == regions.begin() ? 0 : std::prev(next)->last() + 1;
  const std::uint64_t last = next == regions.end() ? UINT64_MAX : next->base - 1;
  return range_text(first, last);
}

}  // namespace

RegionTable::RegionTable(std::vector<Region> regions) : regions_(std::move(regions)) {
  for (const Region& region : regions_) {
    if (region.size == 0) throw InvalidConfig("the region at " + hex(region.base) + " (" + region.name + ") is empty");
    if (!range_fits(region.base, region.size)) {
      throw InvalidConfig("the region at " + hex(region.base) + " (" + region.name + ") of " + hex(region.size) +
                          " bytes ends beyond the last 64-bit address");
    }
  }
  std::sort(regions_.begin(), regions_.end(), [](const Region& a, const Region& b) { return a.base < b.base; });
  bases_.reserve(regions_.size());
  for (const Region& region : regions_) {
    bases_.push_back(region.base);
    lazy_ = lazy_ || filler_of(region) != nullptr;
  }
  for (std::size_t i = 1; i < regions_.size(); ++i) {
    if (regions_[i].base <= regions_[i - 1].last()) {
      throw InvalidConfig(region_text(regions_[i - 1]) + " and " + region_text(regions_[i]) + " overlap");
    }
  }
}

void RegionTable::require(std::uint64_t paddr, std::uint64_t size, const char* what) const {
  if (size == 0) return;
  if (!range_fits(paddr, size)) {
    throw OutOfRange(request_text(paddr, size, what) + " ends beyond the last 64-bit address", paddr, size);
  }
  if (at(paddr, size) != nullptr) return;
  if (const auto hole = first_hole(*this, paddr, paddr + (size - 1))) {
    throw OutOfRange(request_text(paddr, size, what) + " reaches " + hex(*hole) + ", but there is no guest memory in " +
                         hole_text(regions_, *hole),
                     paddr, size);
  }
}

void RegionTable::require_writable(std::uint64_t paddr, std::uint64_t size, const char* what) const {
  if (size == 0 || writable_at(paddr, size) != nullptr) return;
  require(paddr, size, what);
  const std::uint64_t last = paddr + (size - 1);
  for (const Region* region = find(paddr);; region = find(region->last() + 1)) {
    if (!region->writable) {
      throw AccessViolation(request_text(paddr, size, what) + " touches the read-only " + region_text(*region));
    }
    if (region->last() >= last) return;
  }
}

void RegionTable::require_present(std::uint64_t paddr, std::uint64_t size) const {
  if (!lazy_) return;
  for (std::uint64_t done = 0; done < size;) {
    const Region& region = *find(paddr + done);
    const std::uint64_t offset = paddr + done - region.base;
    const std::uint64_t count = std::min(size - done, region.size - offset);
    if (PageFiller* filler = filler_of(region)) {
      filler->require(static_cast<std::uint64_t>(region.host - region.mapping->data()) + offset, count);
    }
    done += count;
  }
}

std::vector<std::shared_ptr<void>> RegionTable::before_wait() const {
  std::vector<std::shared_ptr<void>> waits;
  if (!lazy_) return waits;
  for (const Region& region : regions_) {
    const PageFiller* filler = filler_of(region);
    auto wait = filler == nullptr ? nullptr : filler->before_wait();
    if (wait != nullptr) waits.push_back(std::move(wait));
  }
  return waits;
}

}  // namespace vm::mem
