// BumpAllocator: alignment, markers, limits, and as a memory_resource.

#include <gtest/gtest.h>

#include <cstring>
#include <memory_resource>
#include <random>
#include <string>
#include <vector>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/alloc/memory_resource.hpp"

namespace vm::mem::alloc {
namespace {

using namespace test;

TEST(Bump, BlocksAreAlignedAndApart) {
  BumpAllocator arena(1 << 20);
  std::mt19937 random(3);
  struct Owned {
    void* block;
    std::size_t size;
  };
  for (int round = 0; round < 3; ++round) {
    std::vector<Owned> blocks;
    for (unsigned i = 0; i < 500; ++i) {
      const std::size_t alignment = std::size_t{1} << random() % 11;
      const std::size_t size = random() % 200;
      void* const block = arena.allocate(size, alignment);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block) % std::max<std::size_t>(alignment, 16), 0U);
      ASSERT_TRUE(size == 0 || arena.contains(block));
      fill(block, size, i);
      blocks.push_back({block, size});
    }
    for (unsigned i = 0; i < 500; ++i) ASSERT_TRUE(holds(blocks[i].block, blocks[i].size, i));
    arena.reset();
    EXPECT_EQ(arena.used(), 0U);
  }
  EXPECT_EQ(arena.resets(), 3U);
  EXPECT_GT(arena.peak(), 500U * 100);
}

TEST(Bump, GoesBackToMarkers) {
  BumpAllocator arena(1 << 16);
  void* const first = arena.allocate(100);
  EXPECT_EQ(arena.used(), 112U);
  EXPECT_EQ(arena.offset(first), 0U);
  const BumpMarker one = arena.mark();
  EXPECT_EQ(one.used(), 112U);
  void* const second = arena.allocate(100);
  const BumpMarker two = arena.mark();
  arena.allocate(100);
  arena.reset(two);
  arena.reset(one);
  EXPECT_EQ(arena.allocate(100), second);
  arena.reset(one);
  EXPECT_THROW(arena.reset(two), InvalidConfig);  // that place does not exist any more
  {
    const BumpScope scope(arena);
    EXPECT_EQ(arena.allocate(1000), second);
    arena.reset();  // further back than the scope would go
  }
  EXPECT_EQ(arena.allocate(8), first);
  {
    const BumpScope scope(arena);
    arena.allocate(5000);
  }
  EXPECT_EQ(arena.used(), 16U);
  EXPECT_GE(arena.peak(), 5016U);
}

TEST(Bump, EndsWhereItsCapacityDoes) {
  BumpAllocator arena(8192);
  EXPECT_EQ(arena.capacity(), 8192U);
  EXPECT_THROW(arena.allocate(8193), ResourceExhausted);
  EXPECT_THROW(arena.allocate(SIZE_MAX), ResourceExhausted);
  EXPECT_THROW(arena.allocate(SIZE_MAX - 8), ResourceExhausted);
  EXPECT_THROW(arena.allocate_array<double>(SIZE_MAX / 4), ResourceExhausted);
  EXPECT_THROW(arena.allocate(16, 0), InvalidConfig);
  EXPECT_THROW(arena.allocate(16, 48), InvalidConfig);
  EXPECT_EQ(arena.used(), 0U);
  arena.allocate(16);
  EXPECT_THROW(arena.allocate(5000, 4096), ResourceExhausted);  // what alignment skips is taken into account
  EXPECT_EQ(arena.used(), 16U);
  arena.reset();
  arena.allocate(8000);
  arena.allocate(192);
  EXPECT_EQ(arena.used(), 8192U);
  arena.allocate(0);
  EXPECT_THROW(arena.allocate(1), ResourceExhausted);
  EXPECT_THROW(BumpAllocator(0), InvalidConfig);
  EXPECT_THROW(BumpAllocator(UINT64_MAX), InvalidConfig);
}

TEST(Bump, MakesObjectsAndArrays) {
  struct alignas(64) Line {
    int a;
    int b;
  };
  BumpAllocator arena(1 << 16);
  arena.allocate(1);
  const Line* const line = arena.create<Line>(Line{1, 2});
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(line) % 64, 0U);
  EXPECT_EQ(line->b, 2);
  double* const numbers = arena.allocate_array<double>(100);
  numbers[99] = 1.0;
  EXPECT_EQ(arena.used() % 16, 0U);
}

TEST(Bump, TrimGivesPagesBack) {
  BumpAllocator arena(std::uint64_t{1} << 22, HugePages::none);
  void* const kept = arena.allocate(100);
  fill(kept, 100, 9);
  const BumpMarker marker = arena.mark();
  void* const big = arena.allocate(1 << 20);
  fill(big, 1 << 20, 7);
  EXPECT_EQ(arena.trim(), 0U);  // it is in use
  arena.reset(marker);
  EXPECT_GE(arena.trim(), 1U << 20);
  EXPECT_EQ(arena.trim(), 0U);
  EXPECT_TRUE(holds(kept, 100, 9));
  EXPECT_EQ(arena.allocate(1 << 20), big);
  EXPECT_TRUE(holds(static_cast<std::byte*>(big) + 65536, 1 << 19, 0));
}

TEST(Bump, TheMemoryMayBeKept) {
  std::shared_ptr<HostMapping> memory;
  void* block = nullptr;
  {
    BumpAllocator arena(4096);
    block = arena.allocate(10);
    memory = arena.mapping();
  }
  fill(block, 10, 1);
  EXPECT_TRUE(holds(block, 10, 1));
}

TEST(BumpResource, ServesContainersOfTheStandardLibrary) {
  BumpAllocator arena(1 << 20);
  BumpResource resource(arena);
  {
    std::pmr::vector<std::pmr::string> strings(&resource);
    for (std::size_t i = 0; i < 300; ++i) strings.emplace_back(i, 'x');
    EXPECT_TRUE(arena.contains(strings.data()));
    EXPECT_EQ(strings[200].size(), 200U);
  }
  EXPECT_GT(arena.used(), 300U * 150);
  BumpAllocator another(4096);
  EXPECT_EQ(resource, BumpResource(arena));
  EXPECT_NE(resource, BumpResource(another));
  EXPECT_EQ(&resource.arena(), &arena);
}

}  // namespace
}  // namespace vm::mem::alloc
