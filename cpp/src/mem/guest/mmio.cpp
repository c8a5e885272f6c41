#include "vm/mem/guest/mmio.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "vm/core/address.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {
namespace {

std::string span_of(std::uint64_t base, std::uint64_t size) { return hex(base) + "-" + hex(base + (size - 1)); }

std::string describe(const MmioRange& range) {
  return "MMIO range " + (range.name.empty() ? "" : "\"" + range.name + "\" ") + span_of(range.base, range.size);
}

void check_shape(const MmioRange& range) {
  if (range.size == 0) throw InvalidConfig("an MMIO range at " + hex(range.base) + " needs a size above 0");
  if (!range_fits(range.base, range.size))
    throw InvalidConfig("an MMIO range of " + hex(range.size) + " bytes at " + hex(range.base) + " ends beyond 2^64");
  if (range.handler == nullptr) throw InvalidConfig(describe(range) + " needs a handler");
  if (range.widths == 0 || (range.widths & ~all_mmio_widths) != 0)
    throw InvalidConfig(describe(range) + " has widths " + std::to_string(range.widths) +
                        "; choose a sum of 1, 2, 4 and 8");
}

bool overlaps(std::uint64_t first, std::uint64_t last, std::uint64_t other_first, std::uint64_t other_last) noexcept {
  return first <= other_last && other_first <= last;
}

/// The widest access that the range answers at `offset` with at most `left` bytes; 0 when there is none.
unsigned widest(const MmioRange& range, std::uint64_t offset, std::uint64_t left) noexcept {
  for (unsigned width = 8; width != 0; width /= 2)
    if ((range.widths & width) != 0 && width <= left && offset % width == 0) return width;
  return 0;
}

[[noreturn]] void refuse(const MmioRange& range, std::uint64_t paddr, std::uint64_t size, const char* what) {
  std::string widths;
  for (unsigned width = 1; width <= 8; width *= 2)
    if ((range.widths & width) != 0) widths += (widths.empty() ? "" : ", ") + std::to_string(width);
  throw AccessViolation(std::string(what) + " of " + std::to_string(size) + " bytes at " + hex(paddr) + ": " +
                        describe(range) + " answers aligned accesses of " + widths + " bytes");
}

void require_parts(const MmioRange& range, std::uint64_t paddr, std::uint64_t size, const char* what) {
  const std::uint64_t begin = paddr - range.base;
  for (std::uint64_t done = 0; done < size;) {
    const unsigned width = widest(range, begin + done, size - done);
    if (width == 0) refuse(range, paddr, size, what);
    done += width;
  }
}

/// Calls `access(offset, width, bytes done)` for each part once all of them are known to be possible.
template <class Access>
void in_parts(const MmioRange& range, std::uint64_t paddr, std::uint64_t size, const char* what, Access&& access) {
  require_parts(range, paddr, size, what);
  const std::uint64_t begin = paddr - range.base;
  for (std::uint64_t done = 0; done < size;) {
    const unsigned width = widest(range, begin + done, size - done);
    access(begin + done, width, done);
    done += width;
  }
}

}  // namespace

MmioManager::MmioManager(std::shared_ptr<GuestMemory> memory)
    : memory_(std::move(memory)), ranges_(std::make_shared<const Ranges>()) {
  if (memory_ == nullptr) throw InvalidConfig("an MMIO manager needs a guest memory; got null");
}

void MmioManager::add(MmioRange range) {
  check_shape(range);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Region& region : memory_->table()->regions())
    if (overlaps(range.base, range.last(), region.base, region.last()))
      throw InvalidConfig(describe(range) + " overlaps the guest memory at " + span_of(region.base, region.size));
  for (const MmioRange& other : *ranges_)
    if (overlaps(range.base, range.last(), other.base, other.last()))
      throw InvalidConfig(describe(range) + " overlaps " + describe(other));
  auto ranges = std::make_shared<Ranges>(*ranges_);
  const auto after =
      std::find_if(ranges->begin(), ranges->end(), [&](const MmioRange& other) { return other.base > range.base; });
  ranges->insert(after, std::move(range));
  ranges_ = std::move(ranges);
}

bool MmioManager::remove(std::uint64_t base) {
  // Goes after the lock does: the end of a handler may run anything, and may have to wait for others that come here.
  std::shared_ptr<const Ranges> before;
  const std::lock_guard<std::mutex> lock(mutex_);
  auto ranges = std::make_shared<Ranges>(*ranges_);
  const auto found =
      std::find_if(ranges->begin(), ranges->end(), [&](const MmioRange& range) { return range.base == base; });
  if (found == ranges->end()) return false;
  ranges->erase(found);
  before = std::exchange(ranges_, std::move(ranges));
  return true;
}

std::shared_ptr<const MmioManager::Ranges> MmioManager::snapshot() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return ranges_;
}

std::vector<MmioRange> MmioManager::ranges() const { return *snapshot(); }

bool MmioManager::empty() const noexcept { return snapshot()->empty(); }

bool MmioManager::contains(std::uint64_t paddr) const {
  const auto ranges = snapshot();
  return std::any_of(ranges->begin(), ranges->end(),
                     [&](const MmioRange& range) { return paddr - range.base < range.size; });
}

MmioRange MmioManager::find(std::uint64_t paddr, std::uint64_t size, const char* what) const {
  const auto ranges = snapshot();
  for (const MmioRange& range : *ranges) {
    const std::uint64_t offset = paddr - range.base;
    if (offset < range.size && size <= range.size - offset) return range;
  }
  throw OutOfRange(std::string(what) + " of " + std::to_string(size) + " bytes at " + hex(paddr) +
                       ": neither guest memory nor one MMIO range holds all of it",
                   paddr, size);
}

void MmioManager::require(std::uint64_t paddr, std::uint64_t size, const char* what) const {
  if (size != 0) require_parts(find(paddr, size, what), paddr, size, what);
}

std::uint64_t MmioManager::last_of(std::uint64_t paddr) const { return find(paddr, 1, "access").last(); }

std::uint64_t MmioManager::read(std::uint64_t paddr, unsigned width) const {
  const MmioRange range = find(paddr, width, "read");
  const std::uint64_t offset = paddr - range.base;
  if (widest(range, offset, width) != width) refuse(range, paddr, width, "read");
  const std::uint64_t value = range.handler->read(offset, width);
  return width == 8 ? value : value & ((std::uint64_t{1} << (8 * width)) - 1);
}

void MmioManager::write(std::uint64_t paddr, unsigned width, std::uint64_t value) const {
  const MmioRange range = find(paddr, width, "write");
  const std::uint64_t offset = paddr - range.base;
  if (widest(range, offset, width) != width) refuse(range, paddr, width, "write");
  range.handler->write(offset, width, width == 8 ? value : value & ((std::uint64_t{1} << (8 * width)) - 1));
}

void MmioManager::read_bytes(std::uint64_t paddr, void* destination, std::uint64_t size) const {
  if (size == 0) return;
  const MmioRange range = find(paddr, size, "read");
  auto* out = static_cast<std::byte*>(destination);
  in_parts(range, paddr, size, "read", [&](std::uint64_t offset, unsigned width, std::uint64_t done) {
    const std::uint64_t value = range.handler->read(offset, width);
    std::memcpy(out + done, &value, width);
  });
}

void MmioManager::write_bytes(std::uint64_t paddr, const void* source, std::uint64_t size) const {
  if (size == 0) return;
  const MmioRange range = find(paddr, size, "write");
  const auto* in = static_cast<const std::byte*>(source);
  in_parts(range, paddr, size, "write", [&](std::uint64_t offset, unsigned width, std::uint64_t done) {
    std::uint64_t value = 0;
    std::memcpy(&value, in + done, width);
    range.handler->write(offset, width, value);
  });
}

}  // namespace vm::mem
