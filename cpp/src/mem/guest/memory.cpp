#include "vm/mem/guest/memory.hpp"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "mem/guest/file.hpp"
#include "mem/guest/overlap.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/page_filler.hpp"

namespace vm::mem {

namespace {

/// Checked before memory is mapped, so that a wrong base is told without a mapping made for nothing.
void check_base(std::uint64_t base, std::uint64_t size) {
  if (!range_fits(base, size)) {
    throw InvalidConfig("guest memory of " + hex(size) + " bytes at " + hex(base) +
                        " ends beyond the last 64-bit address");
  }
}

std::shared_ptr<GuestMemory> whole_mapping(const std::shared_ptr<HostMapping>& mapping, std::uint64_t base,
                                           const std::string& name, const std::string& format) {
  Region region;
  region.base = base;
  region.size = mapping->size();
  region.host = mapping->data();
  region.writable = mapping->writable();
  region.name = name;
  region.mapping = mapping;
  ImageFacts facts;
  facts.format = format;
  return std::make_shared<GuestMemory>(RegionTable({std::move(region)}), std::move(facts));
}

/// Calls copy(region bytes, bytes done before, count) for every piece of a range that lies wholly in regions.
template <class Copy>
void for_each_piece(const RegionTable& table, std::uint64_t paddr, std::uint64_t size, Copy copy) {
  std::uint64_t done = 0;
  while (done < size) {
    const Region* region = table.find(paddr + done);
    const std::uint64_t offset = paddr + done - region->base;
    const std::uint64_t count = std::min(size - done, region->size - offset);
    copy(region->host + offset, done, count);
    done += count;
  }
}

/// The mapping for a view; when its users could not wait for missing pages, one that also keeps the pages there.
std::shared_ptr<HostMapping> held_mapping(const Region& region, std::uint64_t offset, std::uint64_t size) {
  PageFiller* filler = region.mapping == nullptr ? nullptr : region.mapping->filler();
  if (filler == nullptr) return region.mapping;
  auto pages = filler->hold(static_cast<std::uint64_t>(region.host - region.mapping->data()) + offset, size);
  if (pages == nullptr) return region.mapping;
  struct Held {
    std::shared_ptr<HostMapping> mapping;
    std::shared_ptr<void> pages;  // let go of first
  };
  auto held = std::make_shared<Held>(Held{region.mapping, std::move(pages)});
  HostMapping* mapping = held->mapping.get();
  return {std::move(held), mapping};
}

}  // namespace

ImageFormat parse_image_format(const std::string& name) {
  if (name == "raw") return ImageFormat::raw;
  if (name == "lime") return ImageFormat::lime;
  if (name == "elf") return ImageFormat::elf;
  throw InvalidConfig("unknown image format \"" + name + "\"; choose raw, lime or elf");
}

std::shared_ptr<GuestMemory> GuestMemory::anonymous(std::uint64_t size, std::uint64_t base, HugePages huge_pages) {
  check_base(base, size);
  return whole_mapping(HostMapping::anonymous(size, huge_pages), base, "anonymous", "anonymous");
}

std::shared_ptr<GuestMemory> GuestMemory::memfd(std::uint64_t size, std::uint64_t base, const std::string& name,
                                                HugePages huge_pages, bool sealed) {
  check_base(base, size);
  return whole_mapping(HostMapping::memfd(size, name, huge_pages, sealed), base, "memfd:" + name, "memfd");
}

std::shared_ptr<GuestMemory> GuestMemory::file(const std::string& path, const FileOptions& options) {
  InputFile file(path, options.writable);
  if (options.offset >= file.size()) {
    throw InvalidConfig(path + " has " + hex(file.size()) + " bytes; there is nothing to map at offset " +
                        hex(options.offset));
  }
  const std::uint64_t size = options.size.value_or(file.size() - options.offset);
  if (!file.holds(options.offset, size)) {
    throw InvalidConfig(path + " has " + hex(file.size()) + " bytes; " + hex(size) + " bytes at offset " +
                        hex(options.offset) + " end beyond it");
  }
  check_base(options.base, size);
  return whole_mapping(HostMapping::file(file.release(), options.offset, size, options.writable, path), options.base,
                       path, "file");
}

GuestMemory::GuestMemory(RegionTable regions, ImageFacts facts)
    : facts_(std::move(facts)),
      table_(std::make_shared<const RegionTable>(std::move(regions))),
      lazy_(table_->lazy()) {}

std::shared_ptr<const RegionTable> GuestMemory::table() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (table_ == nullptr) throw ClosedError("this guest memory is closed");
  return table_;
}

void GuestMemory::read(std::uint64_t paddr, void* destination, std::uint64_t size) const {
  const auto regions = table();
  regions->require(paddr, size, "read");
  regions->require_present(paddr, size);
  auto* to = static_cast<std::byte*>(destination);
  for_each_piece(*regions, paddr, size, [to](const std::byte* host, std::uint64_t done, std::uint64_t count) {
    std::memcpy(to + done, host, count);
  });
}

void GuestMemory::write(std::uint64_t paddr, const void* source, std::uint64_t size) {
  const auto regions = table();
  regions->require_writable(paddr, size, "write");
  regions->require_present(paddr, size);
  const auto* from = static_cast<const std::byte*>(source);
  bool own = false;
  for_each_piece(*regions, paddr, size, [&](const std::byte* host, std::uint64_t, std::uint64_t count) {
    own = own || overlap(host, count, from, size);
  });
  std::vector<std::byte> copy;
  if (own) {
    copy.assign(from, from + size);
    from = copy.data();
  }
  for_each_piece(*regions, paddr, size, [from](std::byte* host, std::uint64_t done, std::uint64_t count) {
    std::memcpy(host, from + done, count);
  });
}

HostView GuestMemory::view(std::uint64_t paddr, std::uint64_t size) const {
  const auto regions = table();
  regions->require(paddr, size, "view");
  const Region* region = regions->find(paddr);
  if (region == nullptr) return {};  // a view of nothing, outside all regions
  const std::uint64_t offset = paddr - region->base;
  if (size > region->size - offset) {
    throw OutOfRange("view of " + std::to_string(size) + " bytes at " + hex(paddr) + " crosses from one region (" +
                         region->name + ") into the next at " + hex(region->last() + 1) +
                         "; a view lies in one region: read a copy, or take one view of each",
                     paddr, size);
  }
  return {region->host + offset, region->writable, held_mapping(*region, offset, size)};
}

void GuestMemory::add(const GuestMemory& other) {
  const auto added = other.table();
  while (true) {
    const auto before = table();
    std::vector<Region> regions = before->regions();
    regions.insert(regions.end(), added->regions().begin(), added->regions().end());
    auto after = std::make_shared<const RegionTable>(std::move(regions));
    const std::lock_guard<std::mutex> lock(mutex_);
    if (table_ != before) continue;  // somebody else was faster; with a closed memory table() throws next
    replace_table(std::move(after));
    return;
  }
}

std::uint64_t GuestMemory::size() const {
  std::uint64_t total = 0;
  const auto regions = table();
  for (const Region& region : regions->regions()) total += region.size;
  return total;
}

std::uint64_t GuestMemory::base() const {
  const auto regions = table();
  return regions->regions().empty() ? 0 : regions->regions().front().base;
}

int GuestMemory::fd() const {
  const auto regions = table();
  const auto& all = regions->regions();
  const auto fd_of = [](const Region& region) { return region.mapping == nullptr ? -1 : region.mapping->fd(); };
  const int fd = all.empty() ? -1 : fd_of(all.front());
  const bool same = std::all_of(all.begin(), all.end(), [&](const Region& region) { return fd_of(region) == fd; });
  if (fd >= 0 && same) return fd;
  throw NotSupported("this guest memory has no file descriptor of its own: it is not one memfd or one file");
}

void GuestMemory::close() noexcept {
  std::shared_ptr<const RegionTable> last;  // released after the lock: unmapping can take long
  const std::lock_guard<std::mutex> lock(mutex_);
  last.swap(table_);
  generation_.fetch_add(1, std::memory_order_release);
}

bool GuestMemory::closed() const noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return table_ == nullptr;
}

void GuestMemory::replace_table(std::shared_ptr<const RegionTable> table) noexcept {
  lazy_.store(table->lazy(), std::memory_order_relaxed);
  table_ = std::move(table);
  generation_.fetch_add(1, std::memory_order_release);
}

}  // namespace vm::mem
