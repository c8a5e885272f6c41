// Large arrays: whole pages, of which those of freed arrays are kept for the next ones.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "mem/pages/array_allocator_parts.hpp"
#include "mem/pages/map_pages.hpp"
#include "vm/core/address.hpp"
#include "vm/mem/pages/array_allocator.hpp"

namespace vm::mem {

namespace {

constexpr auto relaxed = std::memory_order_relaxed;

// Clearing pages that are there costs less than having new ones up to about here, which is also where glibc stops
// keeping what was freed (DEFAULT_MMAP_THRESHOLD_MAX).
constexpr std::uint64_t clear_by_hand = std::uint64_t{32} << 20;

// What less than this asks for, any machine has.
constexpr std::uint64_t much_memory = std::uint64_t{1} << 30;

/// Whether the kernel would let malloc have so much. Mappings of arrays are not counted, because a part of each is
/// never used, and that would also let through what exceeds all memory and swap ("obvious overcommits", Linux
/// Documentation/mm/overcommit-accounting): the process would end at a touch instead.
bool may_have(std::uint64_t size) noexcept {
  if (size < much_memory) return true;
  int code = 0;
  return static_cast<bool>(map_pages(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, code));
}

constexpr std::uintptr_t class_bits = 0xFFF;
static_assert(class_of(largest_array) < class_bits, "a size class fits beside the address of a page");

}  // namespace

void* ArrayAllocator::place_large(std::uint64_t size, bool zeroed, Ledger ledger) noexcept {
  if (size > largest_array) return nullptr;
  const unsigned size_class = class_of(size);
  std::byte* data = take_kept(size_class, ledger);
  if (data == nullptr) {
    while (!may_have(size)) {
      if (!evict_one(ledger)) return nullptr;
    }
    data = map(size_class, ledger);
    if (data == nullptr) return nullptr;
  } else if (zeroed) {
    clear(data, size);
  }
  Header::of(data) = {size, Header::large_flag | size_class};
  return data;
}

void ArrayAllocator::clear(std::byte* data, std::uint64_t size) const noexcept {
  if (size > clear_by_hand && ::madvise(data, align_up(size, page_), MADV_DONTNEED) == 0) return;
  std::memset(data, 0, size);
}

/// Bytes mapped for the array itself; a page for the header comes before it.
std::uint64_t ArrayAllocator::mapped_size(unsigned size_class) const noexcept {
  return align_up(class_capacity(size_class), options_.huge_pages ? transparent_alignment : page_);
}

/// Fresh zeros, or nullptr.
std::byte* ArrayAllocator::map(unsigned size_class, Ledger ledger) noexcept {
  const std::uint64_t size = mapped_size(size_class);
  const std::uint64_t alignment = std::max(options_.alignment, options_.huge_pages ? transparent_alignment : page_);
  int code = 0;
  MappedPages pages = map_aligned(page_, size, 0, alignment, PROT_READ | PROT_WRITE, code);
  while (!pages && evict_one(ledger)) pages = map_aligned(page_, size, 0, alignment, PROT_READ | PROT_WRITE, code);
  if (!pages) return nullptr;
  std::byte* const data = pages.at(page_);
  pages.release();
  // A kernel without transparent huge pages refuses, and ordinary ones do as well.
  if (options_.huge_pages) ::madvise(data, size, MADV_HUGEPAGE);
  if (options_.place && options_.place(data, size) != 0) {
    ::munmap(data - page_, page_ + size);
    return nullptr;
  }
  ledger.add(&Counters::mapped, page_ + size);
  return data;
}

void ArrayAllocator::unmap(std::byte* data, unsigned size_class, Ledger ledger) noexcept {
  const std::uint64_t size = mapped_size(size_class);
  ::munmap(data - page_, page_ + size);
  ledger.add(&Counters::mapped, 0 - (page_ + size));
}

std::byte* ArrayAllocator::take_kept(unsigned size_class, Ledger ledger) noexcept {
  const auto taken = [&](std::uintptr_t value) {
    ledger.add(&Counters::retained, 0 - mapped_size(size_class));
    ledger.add(&Counters::reused, 1);
    return reinterpret_cast<std::byte*>(value & ~class_bits);
  };
  if (ledger.owner()) {
    for (std::uintptr_t& slot : own_kept_) {
      if (slot != 0 && (slot & class_bits) == size_class) return taken(std::exchange(slot, 0));
    }
  }
  for (std::atomic<std::uintptr_t>& slot : kept_) {
    std::uintptr_t value = slot.load(relaxed);
    // Acquire pairs with the release in keep_or_unmap: what the array's last owner did to the pages is done. That the
    // value went and came back meanwhile does not matter: it says all there is to know.
    if (value != 0 && (value & class_bits) == size_class &&
        slot.compare_exchange_strong(value, 0, std::memory_order_acquire, relaxed)) {
      return taken(value);
    }
  }
  return nullptr;
}

void ArrayAllocator::keep_or_unmap(std::byte* data, unsigned size_class, Ledger ledger) noexcept {
  const std::uint64_t size = mapped_size(size_class);
  const std::uint64_t limit = std::min(retain_limit_.load(relaxed), largest_array);
  if (size > limit) {
    if (limit == 0) drop_all(ledger);
    return unmap(data, size_class, ledger);
  }
  ledger.add(&Counters::retained, size);
  // Signed, because another thread's change may be seen in one of the two counters and not yet in the other.
  const auto over_limit = [&] {
    return static_cast<std::int64_t>(total(&Counters::retained)) > static_cast<std::int64_t>(limit);
  };
  while (over_limit() && evict_one(ledger)) {
  }
  if (over_limit()) {  // by what only the owner may take
    ledger.add(&Counters::retained, 0 - size);
    return unmap(data, size_class, ledger);
  }
  const std::uintptr_t value = reinterpret_cast<std::uintptr_t>(data) | size_class;
  if (ledger.owner()) {
    for (std::uintptr_t& slot : own_kept_) {
      if (slot != 0) continue;
      slot = value;
      return;
    }
  }
  bool kept = false;
  // Sequentially consistent here and in stop_retaining: either it sees this slot, or the limit of 0 is seen below.
  for (std::atomic<std::uintptr_t>& slot : kept_) {
    std::uintptr_t empty = 0;
    kept = slot.load(relaxed) == 0 && slot.compare_exchange_strong(empty, value);
    if (kept) break;
  }
  if (!kept) drop(kept_[victim_.fetch_add(1, relaxed) % slot_count].exchange(value), ledger);
  if (retain_limit_.load() == 0) drop_all(ledger);
}

/// Unmaps what one slot holds; false when all that this thread may empty are empty.
bool ArrayAllocator::evict_one(Ledger ledger) noexcept {
  for (std::size_t i = 0; i < slot_count; ++i) {
    const std::uintptr_t value = kept_[victim_.fetch_add(1, relaxed) % slot_count].exchange(0);
    if (value == 0) continue;
    drop(value, ledger);
    return true;
  }
  if (!ledger.owner()) return false;
  for (std::uintptr_t& slot : own_kept_) {
    if (slot == 0) continue;
    drop(std::exchange(slot, 0), ledger);
    return true;
  }
  return false;
}

void ArrayAllocator::drop(std::uintptr_t slot_value, Ledger ledger) noexcept {
  if (slot_value == 0) return;
  const auto size_class = static_cast<unsigned>(slot_value & class_bits);
  ledger.add(&Counters::retained, 0 - mapped_size(size_class));
  unmap(reinterpret_cast<std::byte*>(slot_value & ~class_bits), size_class, ledger);
}

void ArrayAllocator::drop_all(Ledger ledger) noexcept {
  for (std::atomic<std::uintptr_t>& slot : kept_) drop(slot.exchange(0), ledger);
  if (!ledger.owner()) return;
  for (std::uintptr_t& slot : own_kept_) drop(std::exchange(slot, 0), ledger);
}

void ArrayAllocator::stop_retaining() noexcept {
  retain_limit_.store(0);
  drop_all(Ledger(*this));
}

}  // namespace vm::mem
