// A SlabAllocator behind malloc's interface in a shared library: what calling it costs where nothing can be inlined.

#include "vm/mem/alloc/slab_allocator.hpp"

namespace {

vm::mem::alloc::SlabAllocator slabs;

}  // namespace

extern "C" {
__attribute__((visibility("default"))) void* slab_malloc(std::size_t size) { return slabs.allocate(size); }
__attribute__((visibility("default"))) void slab_free(void* block) { slabs.deallocate(block); }
__attribute__((visibility("default"))) void slab_free_sized(void* block, std::size_t size) {
  slabs.deallocate(block, size);
}
}
