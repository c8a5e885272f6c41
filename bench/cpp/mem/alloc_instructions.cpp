// One of the allocators' fast paths, so often as asked, for a tool that counts instructions:
//   alloc_instructions CASE COUNT
// Where a call begins matters to what is counted, so that each case is a loop in a function of its own.

#include <cstdlib>
#include <cstring>

#include "vm/mem/alloc/bump_allocator.hpp"
#include "vm/mem/alloc/slab_allocator.hpp"

namespace {

using vm::mem::alloc::BumpAllocator;
using vm::mem::alloc::SlabAllocator;

constexpr std::size_t size = 64;

/// The compiler has to take it for used and changed.
void look_at(void*& block) { asm volatile("" : "+r"(block) : : "memory"); }

template <class Body>
[[gnu::noinline]] void repeat(long count, Body&& body) {
  for (long i = 0; i < count; ++i) body();
}

[[gnu::noinline]] void* called_allocate(SlabAllocator& slabs, std::size_t bytes) { return slabs.allocate(bytes); }
[[gnu::noinline]] void called_free(SlabAllocator& slabs, void* block) { slabs.deallocate(block); }

}  // namespace

int main(int argc, char** argv) {
  const long count = argc == 3 ? std::atol(argv[2]) : 0;
  if (count <= 0) return 2;
  const auto is = [&](const char* name) { return std::strcmp(argv[1], name) == 0; };
  SlabAllocator slabs;
  SlabAllocator::Local local = slabs.local();
  slabs.deallocate(slabs.allocate(size));
  local.deallocate(local.allocate(size), size);
  if (is("loop")) {
    repeat(count, [] { asm volatile("" : : : "memory"); });
  } else if (is("slab_inlined")) {
    repeat(count, [&] {
      void* block = slabs.allocate(size);
      look_at(block);
      slabs.deallocate(block, size);
    });
  } else if (is("slab_unsized")) {
    repeat(count, [&] {
      void* block = slabs.allocate(size);
      look_at(block);
      slabs.deallocate(block);
    });
  } else if (is("slab_local")) {
    repeat(count, [&] {
      void* block = local.allocate(size);
      look_at(block);
      local.deallocate(block, size);
    });
  } else if (is("slab_called")) {
    repeat(count, [&] {
      void* block = called_allocate(slabs, size);
      look_at(block);
      called_free(slabs, block);
    });
  } else if (is("bump")) {
    BumpAllocator arena;
    repeat(count, [&] {
      void* block = arena.allocate(size);
      look_at(block);
    });
  } else {
    return 2;
  }
  return 0;
}
