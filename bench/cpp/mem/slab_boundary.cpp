// A SlabAllocator behind malloc's interface in a shared library: what calling it costs where nothing can be inlined.

#include "vm/mem/alloc/slab_allocator.hpp"

namespace {

vm::mem::alloc::SlabAllocator& slabs() {
  static vm::mem::alloc::SlabAllocator allocator;
  return allocator;
}

// The guard of a local static would be a part of every call.
vm::mem::alloc::SlabAllocator& allocator = slabs();

}  // namespace

extern "C" {
__attribute__((visibility("default"))) void* slab_malloc(std::size_t size) { return allocator.allocate(size); }
__attribute__((visibility("default"))) void slab_free(void* block) { allocator.deallocate(block); }
}
