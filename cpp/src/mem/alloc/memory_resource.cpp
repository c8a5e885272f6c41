#include "vm/mem/alloc/memory_resource.hpp"

namespace vm::mem::alloc {

SlabResource::SlabResource(SlabAllocator& slabs, std::pmr::memory_resource* upstream)
    : slabs_(&slabs), upstream_(upstream), largest_(slabs.largest_size()) {}

void* SlabResource::do_allocate(std::size_t size, std::size_t alignment) {
  if (alignment <= least_alignment && size <= largest_) return slabs_->allocate(size);
  return too_much(size, alignment) ? upstream_->allocate(size, alignment) : slabs_->allocate(size, alignment);
}

void SlabResource::do_deallocate(void* block, std::size_t size, std::size_t alignment) {
  if (alignment <= least_alignment && size <= largest_) return slabs_->deallocate(block, size);
  if (too_much(size, alignment)) return upstream_->deallocate(block, size, alignment);
  slabs_->deallocate(block, size, alignment);
}

bool SlabResource::do_is_equal(const std::pmr::memory_resource& other) const noexcept {
  const auto* const same = dynamic_cast<const SlabResource*>(&other);
  return same != nullptr && same->slabs_ == slabs_ && same->upstream_ == upstream_;
}

bool BumpResource::do_is_equal(const std::pmr::memory_resource& other) const noexcept {
  const auto* const same = dynamic_cast<const BumpResource*>(&other);
  return same != nullptr && same->arena_ == arena_;
}

}  // namespace vm::mem::alloc
