#include "vm/mem/alloc/bump_allocator.hpp"

#include <algorithm>
#include <string>

#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::alloc {

namespace {

std::uint64_t checked_capacity(std::uint64_t capacity) {
  if (capacity != 0 && capacity <= BumpAllocator::largest_capacity) return align_up(capacity, host_page_size());
  throw InvalidConfig("an arena's capacity is 1 to 2^46 bytes, got " + hex(capacity));
}

}  // namespace

BumpAllocator::BumpAllocator(std::uint64_t capacity, HugePages huge_pages)
    : mapping_(HostMapping::anonymous(checked_capacity(capacity), huge_pages)),
      begin_(mapping_->data()),
      cursor_(begin_),
      end_(begin_ + mapping_->size()) {}

void* BumpAllocator::allocate_slowly(std::size_t size, std::size_t alignment) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
    throw InvalidConfig("an alignment is a power of two, asked for " + std::to_string(alignment));
  }
  const std::size_t padding = -reinterpret_cast<std::uintptr_t>(cursor_) & (alignment - 1);
  const auto room = static_cast<std::size_t>(end_ - cursor_);
  if (padding > room || size > room - padding) {
    throw ResourceExhausted("no room for " + std::to_string(size) + " bytes in the arena: " + std::to_string(used()) +
                            " of " + std::to_string(capacity()) + " are used; reset it, or choose a larger capacity");
  }
  cursor_ += padding;
  return allocate(size);
}

std::size_t BumpAllocator::bytes_of(std::size_t count, std::size_t size) {
  if (count > SIZE_MAX / size) {
    throw ResourceExhausted(std::to_string(count) + " objects of " + std::to_string(size) +
                            " bytes do not fit the address space");
  }
  return count * size;
}

void BumpAllocator::reset(BumpMarker marker) {
  if (marker.used_ > used()) {
    throw InvalidConfig("the marker is at " + std::to_string(marker.used_) + " bytes, but an earlier reset left only " +
                        std::to_string(used()) + " in use; markers beyond it are gone");
  }
  rewind(marker);
}

void BumpAllocator::rewind(BumpMarker marker) noexcept {
  if (marker.used_ > used()) return;
  peak_ = peak();
  touched_ = std::max(touched_, used());
  cursor_ = begin_ + marker.used_;
  ++resets_;
}

std::uint64_t BumpAllocator::trim() {
  const std::uint64_t unit = mapping_->discard_unit();
  const std::uint64_t from = align_up(used(), unit);
  const std::uint64_t to = std::min(align_up(std::max(touched_, used()), unit), capacity());
  if (from >= to) return 0;
  mapping_->discard(from, to - from);
  touched_ = used();
  return to - from;
}

}  // namespace vm::mem::alloc
