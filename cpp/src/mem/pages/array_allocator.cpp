// Counting, and small arrays: malloc with a header.
#include "vm/mem/pages/array_allocator.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "mem/pages/array_allocator_parts.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem {

namespace {

// Counters only count, so nothing is published through them.
constexpr auto relaxed = std::memory_order_relaxed;

constexpr std::uint64_t smallest_alignment = 16;  // of what malloc returns
constexpr std::uint64_t largest_alignment = std::uint64_t{2} << 20;
constexpr std::uint64_t largest_sum = std::uint64_t{1} << 63;

}  // namespace

ArrayAllocator::ArrayAllocator(const ArrayAllocatorOptions& options)
    : options_(options), page_(host_page_size()), retain_limit_(options.retain) {
  static_assert(sizeof(Header) == smallest_alignment, "a header fits in front of what is aligned least");
  if (!is_power_of_two(options.alignment) || options.alignment < smallest_alignment ||
      options.alignment > largest_alignment) {
    throw InvalidConfig("alignment is " + std::to_string(options.alignment) +
                        "; arrays are aligned to a power of two from 16 to 2 MiB");
  }
}

ArrayAllocator::~ArrayAllocator() {
  drop_all(Ledger(*this, true));  // nobody else is left
}

void* ArrayAllocator::allocate(std::uint64_t size) noexcept {
  const Ledger ledger(*this);
  return counted(place(size, false, ledger), ledger);
}

void* ArrayAllocator::allocate_zeroed(std::uint64_t count, std::uint64_t size) noexcept {
  const Ledger ledger(*this);
  const bool fits = size == 0 || count <= largest_array / size;
  return counted(fits ? place(count * size, true, ledger) : nullptr, ledger);
}

void* ArrayAllocator::reallocate(void* array, std::uint64_t size) noexcept {
  if (array == nullptr) return allocate(size);
  const Ledger ledger(*this);
  const std::uint64_t old = Header::of(array).size;
  void* const moved = move(array, size, ledger);
  if (moved == nullptr) {
    failures_.fetch_add(1, relaxed);
    return nullptr;
  }
  ledger.add(&Counters::reallocations, 1);
  ledger.add(&Counters::in_use, Header::of(moved).size - old);
  note_peak();
  return moved;
}

void ArrayAllocator::free(void* array) noexcept {
  if (array == nullptr) return;
  const Ledger ledger(*this);
  ledger.add(&Counters::frees, 1);
  ledger.add(&Counters::in_use, 0 - Header::of(array).size);
  release(array, ledger);
}

void* ArrayAllocator::counted(void* array, Ledger ledger) noexcept {
  if (array == nullptr) {
    failures_.fetch_add(1, relaxed);
    return nullptr;
  }
  ledger.add(&Counters::allocations, 1);
  ledger.add(&Counters::in_use, Header::of(array).size);
  note_peak();
  return array;
}

void ArrayAllocator::note_peak() noexcept {
  const std::uint64_t now = total(&Counters::in_use);
  std::uint64_t peak = peak_.load(relaxed);
  // Seen between two changes of other threads, the sum may be below 0; that is no peak.
  while (now > peak && now <= largest_sum && !peak_.compare_exchange_weak(peak, now, relaxed)) {
  }
}

std::uint64_t ArrayAllocator::total(Counter Counters::*counter) const noexcept {
  return (own_.*counter).load(relaxed) + (shared_.*counter).load(relaxed);
}

ArrayAllocatorStats ArrayAllocator::stats() const noexcept {
  // An array may come from one side and go on the other. When it does so between two looks, the sum is below 0.
  const auto now = [this](Counter Counters::*counter) {
    const std::uint64_t sum = total(counter);
    return sum <= largest_sum ? sum : 0;
  };
  ArrayAllocatorStats stats;
  stats.allocations = total(&Counters::allocations);
  stats.frees = total(&Counters::frees);
  stats.reallocations = total(&Counters::reallocations);
  stats.failures = failures_.load(relaxed);
  stats.reused = total(&Counters::reused);
  stats.bytes_in_use = now(&Counters::in_use);
  stats.peak_bytes = peak_.load(relaxed);
  stats.mapped_bytes = now(&Counters::mapped);
  stats.retained_bytes = now(&Counters::retained);
  return stats;
}

void* ArrayAllocator::place(std::uint64_t size, bool zeroed, Ledger ledger) noexcept {
  size = std::max<std::uint64_t>(size, 1);
  return size < large_array ? place_small(size, zeroed) : place_large(size, zeroed, ledger);
}

void ArrayAllocator::release(void* array, Ledger ledger) noexcept {
  const Header header = Header::of(array);
  auto* const data = static_cast<std::byte*>(array);
  if (header.is_large()) {
    keep_or_unmap(data, header.size_class(), ledger);
  } else {
    std::free(data - header.offset());
  }
}

void* ArrayAllocator::move(void* array, std::uint64_t size, Ledger ledger) noexcept {
  size = std::max<std::uint64_t>(size, 1);
  Header& header = Header::of(array);
  if (!header.is_large() && size < large_array) return move_small(array, size);
  // In the same pages, unless less than half of them would be used.
  if (header.is_large() && size >= large_array && size <= class_capacity(header.size_class()) &&
      size >= class_capacity(header.size_class()) / 2) {
    header.size = size;
    return array;
  }
  void* const moved = place(size, false, ledger);
  if (moved == nullptr) return nullptr;
  std::memcpy(moved, array, std::min(header.size, size));
  release(array, ledger);
  return moved;
}

void* ArrayAllocator::place_small(std::uint64_t size, bool zeroed) noexcept {
  const std::uint64_t total = size + options_.alignment;
  auto* const base = static_cast<std::byte*>(zeroed ? std::calloc(1, total) : std::malloc(total));
  if (base == nullptr) return nullptr;
  return with_header(base, size);
}

/// Aligns within what malloc returned, at least a header behind its start, and writes the header.
void* ArrayAllocator::with_header(std::byte* base, std::uint64_t size) noexcept {
  const std::uint64_t offset = offset_in(base);
  Header::of(base + offset) = {size, offset};
  return base + offset;
}

std::uint64_t ArrayAllocator::offset_in(const std::byte* base) const noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(base);
  return align_up(address + sizeof(Header), options_.alignment) - address;
}

void* ArrayAllocator::move_small(void* array, std::uint64_t size) noexcept {
  const Header old = Header::of(array);
  void* const moved = std::realloc(static_cast<std::byte*>(array) - old.offset(), size + options_.alignment);
  if (moved == nullptr) return nullptr;
  auto* const base = static_cast<std::byte*>(moved);
  // The bytes came along as they lay; the new place may be aligned differently. The header last: it may lie in them.
  const std::uint64_t offset = offset_in(base);
  if (offset != old.offset()) std::memmove(base + offset, base + old.offset(), std::min(old.size, size));
  return with_header(base, size);
}

}  // namespace vm::mem
