#pragma once
/// \file
/// The allocators as std::pmr::memory_resource, for containers of the standard library.

#include <cstddef>
#include <memory_resource>

#include "vm/mem/alloc/bump_allocator.hpp"
#include "vm/mem/alloc/slab_allocator.hpp"

namespace vm::mem::alloc {

/// Blocks of a SlabAllocator; what is too large or too aligned for it comes from `upstream`. Thread-safe if that is.
/// The allocator must outlive it. deallocate has to get the size and alignment that allocate got, as always with these.
class SlabResource final : public std::pmr::memory_resource {
 public:
  explicit SlabResource(SlabAllocator& slabs, std::pmr::memory_resource* upstream = std::pmr::get_default_resource());

  SlabAllocator& slabs() const noexcept { return *slabs_; }
  std::pmr::memory_resource* upstream() const noexcept { return upstream_; }

 private:
  bool too_much(std::size_t size, std::size_t alignment) const noexcept {
    return size > largest_ || alignment > largest_alignment || class_of(size, alignment) == class_count;
  }
  void* do_allocate(std::size_t size, std::size_t alignment) override;
  void do_deallocate(void* block, std::size_t size, std::size_t alignment) override;
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override;

  SlabAllocator* slabs_;
  std::pmr::memory_resource* upstream_;
  std::size_t largest_;
};

/// A BumpAllocator, which must outlive it; deallocate does nothing. Not thread-safe. Unlike
/// std::pmr::monotonic_buffer_resource it can go back to a marker (of the arena), and is done when the capacity is.
class BumpResource final : public std::pmr::memory_resource {
 public:
  explicit BumpResource(BumpAllocator& arena) noexcept : arena_(&arena) {}

  BumpAllocator& arena() const noexcept { return *arena_; }

 private:
  void* do_allocate(std::size_t size, std::size_t alignment) override { return arena_->allocate(size, alignment); }
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override;

  BumpAllocator* arena_;
};

}  // namespace vm::mem::alloc
