// SlabAllocator from one thread: sizes, alignment, a model, statistics, what it gives back, and as a memory_resource.

#include <gtest/gtest.h>

#include <array>
#include <list>
#include <map>
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

TEST(SizeClasses, EveryBlockFitsAndWastesLittle) {
  for (std::size_t size = 1; size <= largest_block; ++size) {
    const std::size_t block = block_size(class_of(size));
    ASSERT_GE(block, size);
    ASSERT_LE(block, size <= 64 ? size + 15 : size + size / 4 + 1) << size;
    ASSERT_TRUE(class_of(size) == 0 || block_size(class_of(size) - 1) < size) << size;
  }
  EXPECT_EQ(class_of(0), 0U);
  EXPECT_EQ(block_size(class_count - 1), largest_block);
  for (std::size_t alignment = 1; alignment <= largest_alignment; alignment *= 2) {
    for (std::size_t size = 0; size <= largest_block; size += 13) {
      const unsigned size_class = class_of(size, alignment);
      ASSERT_LT(size_class, class_count);
      ASSERT_GE(block_size(size_class), size);
      ASSERT_EQ(block_size(size_class) % alignment, 0U);
    }
  }
  EXPECT_EQ(class_of(largest_block + 1, 16), class_count);
  EXPECT_EQ(class_of(SIZE_MAX, 4096), class_count);
}

TEST(Slab, BlocksAreAlignedAndApart) {
  SlabAllocator slabs(small_slabs());
  for (std::size_t size : {0U, 1U, 16U, 17U, 64U, 100U, 256U, 1000U, 4096U, 8192U}) {
    for (std::size_t alignment : {1U, 16U, 64U, 256U, 4096U}) {
      void* const one = slabs.allocate(size, alignment);
      void* const two = slabs.allocate(size, alignment);
      EXPECT_NE(one, two);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one) % alignment, 0U);
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(two) % alignment, 0U);
      EXPECT_GE(slabs.usable_size(one), size);
      EXPECT_TRUE(slabs.contains(one));
      fill(one, size, 1);
      fill(two, size, 2);
      EXPECT_TRUE(holds(one, size, 1));
      slabs.deallocate(one, size, alignment);
      slabs.deallocate(two);
    }
  }
  EXPECT_FALSE(slabs.contains(&slabs));
  EXPECT_EQ(slabs.stats().live_blocks, 0U);
}

TEST(Slab, RefusesWhatItCannotDo) {
  SlabAllocator slabs(small_slabs());
  EXPECT_THROW(slabs.allocate(largest_block + 1), InvalidConfig);
  EXPECT_THROW(slabs.allocate(16, 0), InvalidConfig);
  EXPECT_THROW(slabs.allocate(16, 24), InvalidConfig);
  EXPECT_THROW(slabs.allocate(16, 8192), InvalidConfig);
  EXPECT_THROW(slabs.allocate(SIZE_MAX, 16), InvalidConfig);
  EXPECT_THROW(slabs.reserve(64, 1 << 20), ResourceExhausted);
  EXPECT_THROW(SlabAllocator(small_slabs(0)), InvalidConfig);
  EXPECT_THROW(SlabAllocator(small_slabs((std::uint64_t{1} << 46) + 1)), InvalidConfig);
  SlabConfig config;
  config.hardening.canaries = true;
  EXPECT_THROW(SlabAllocator{config}, InvalidConfig);
  slabs.deallocate(nullptr);
  slabs.deallocate(nullptr, 16);
  slabs.deallocate(nullptr, 16, 64);
}

TEST(Slab, UsesAllOfItsCapacityForAnySize) {
  SlabAllocator slabs(small_slabs(1 << 20));
  for (std::size_t size : {64U, 8192U, 16U}) {
    std::vector<void*> blocks;
    try {
      while (true) blocks.push_back(slabs.allocate(size));
    } catch (const ResourceExhausted& error) {
      EXPECT_NE(std::string(error.what()).find("0x100000 bytes"), std::string::npos) << error.what();
    }
    EXPECT_EQ(blocks.size(), (1U << 20) / size);
    for (void* block : blocks) slabs.deallocate(block, size);
  }
}

// Random calls beside a map of what is in use: no two blocks overlap, and each keeps its bytes.
TEST(Slab, AgreesWithAModel) {
  struct Owned {
    std::size_t size;
    std::size_t alignment;
    unsigned pattern;
  };
  for (const bool hardened : {false, true}) {
    SlabConfig config = small_slabs();
    if (hardened) config.hardening = Hardening::all();
    SlabAllocator slabs(config);
    SlabAllocator::Local local = slabs.local();
    std::mt19937 random(7);
    std::map<std::byte*, Owned> model;
    std::vector<std::byte*> order;
    for (unsigned step = 0; step < 40000; ++step) {
      // Grows and shrinks in turns, so that slabs fill up and run empty.
      const bool growing = (step / 4000) % 2 == 0;
      if (model.empty() || random() % 100 < (growing ? 60U : 40U)) {
        const std::size_t size = random() % 4 == 0 ? random() % 8000 : random() % 300;
        const std::size_t alignment = std::size_t{1} << random() % 9;
        void* const block =
            random() % 3 == 0 && alignment <= 16 ? local.allocate(size) : slabs.allocate(size, alignment);
        auto* const start = static_cast<std::byte*>(block);
        const auto after = model.lower_bound(start);
        ASSERT_TRUE(after == model.end() || start + size <= after->first);
        ASSERT_TRUE(after == model.begin() || std::prev(after)->first + std::prev(after)->second.size <= start);
        ASSERT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0U);
        fill(block, size, step);
        model.emplace(start, Owned{size, alignment, step});
        order.push_back(start);
      } else {
        std::swap(order[random() % order.size()], order.back());
        std::byte* const block = order.back();
        order.pop_back();
        const Owned owned = model.at(block);
        ASSERT_TRUE(holds(block, owned.size, owned.pattern));
        model.erase(block);
        if (random() % 2 == 0) {
          slabs.deallocate(block, owned.size, owned.alignment);
        } else {
          slabs.deallocate(block);
        }
      }
      if (step % 10000 == 9999) {
        slabs.trim();
        const SlabStats stats = slabs.stats();
        ASSERT_EQ(stats.live_blocks - stats.quarantined, model.size());
        ASSERT_EQ(stats.repeated_frees, 0U);
        slabs.verify();
      }
    }
  }
}

TEST(Slab, StatisticsAddUp) {
  SlabAllocator slabs(small_slabs());
  std::vector<void*> blocks;
  constexpr std::uint64_t count = 3 * detail::magazine_cells;  // more than the thread's two magazines hold
  for (std::uint64_t i = 0; i < count; ++i) blocks.push_back(slabs.allocate(64));
  SlabStats stats = slabs.stats();
  EXPECT_EQ(stats.live_blocks, count);
  EXPECT_EQ(stats.live_bytes, count * 64);
  EXPECT_EQ(stats.threads, 1U);
  const SlabClassStats& size64 = stats.classes[class_of(64)];
  EXPECT_EQ(size64.block_size, 64U);
  EXPECT_EQ(size64.live, count);
  EXPECT_EQ(size64.slabs * 65536, stats.slab_bytes);
  EXPECT_GE(size64.refills, 1U);
  EXPECT_EQ(stats.cached_bytes, size64.cached * 64);
  for (void* block : blocks) slabs.deallocate(block);
  stats = slabs.stats();
  EXPECT_EQ(stats.live_blocks, 0U);
  EXPECT_GT(stats.exchanges, 0U);
  slabs.trim();
  stats = slabs.stats();
  EXPECT_EQ(stats.cached_bytes, 0U);
  EXPECT_EQ(stats.slab_bytes, 0U);
  EXPECT_EQ(stats.spare_slabs, 0U);
  slabs.trim();
  EXPECT_EQ(slabs.stats().exchanges, stats.exchanges);  // nothing was handed over since
}

TEST(Slab, WhatNeverReachesTheDepotIsNoExchange) {
  SlabConfig config = small_slabs();
  config.cached_bytes = 0;
  SlabAllocator slabs(config);
  std::vector<void*> blocks;
  for (std::size_t i = 0; i < 4 * detail::magazine_cells; ++i) blocks.push_back(slabs.allocate(64));
  for (void* block : blocks) slabs.deallocate(block);
  slabs.trim();
  EXPECT_EQ(slabs.stats().exchanges, 0U);
}

TEST(Slab, TrimGivesPagesBack) {
  SlabConfig config = small_slabs();
  config.spare_slabs = 100;
  SlabAllocator slabs(config);
  std::vector<void*> blocks;
  for (int i = 0; i < 512; ++i) {
    blocks.push_back(slabs.allocate(4096));
    fill(blocks.back(), 4096, 0xaa);
  }
  void* const kept = blocks.back();
  blocks.pop_back();
  for (void* block : blocks) slabs.deallocate(block);
  EXPECT_GE(slabs.trim(), 30U * 65536);
  EXPECT_TRUE(holds(kept, 4096, 0xaa));
  // What comes from a slab that was given back is zeros again.
  int zeros = 0;
  for (void*& block : blocks) {
    block = slabs.allocate(4096);
    zeros += holds(block, 4096, 0);
  }
  EXPECT_GE(zeros, 480);
}

TEST(Slab, ReserveMakesRoomOnce) {
  SlabAllocator slabs(small_slabs());
  slabs.reserve(1024, 1000);
  const std::uint64_t reserved = slabs.stats().slab_bytes;
  EXPECT_GE(reserved, 1000U * 1024);
  for (int i = 0; i < 1000; ++i) slabs.allocate(1024);
  EXPECT_EQ(slabs.stats().slab_bytes, reserved);
}

TEST(Slab, AReservationThatFailsTakesNothing) {
  SlabAllocator slabs(small_slabs(1 << 20));
  slabs.deallocate(slabs.allocate(64));
  EXPECT_THROW(slabs.reserve(16, (1 << 20) / 16), ResourceExhausted);  // the other size has a slab
  EXPECT_THROW(slabs.reserve(16, SIZE_MAX), ResourceExhausted);
  EXPECT_EQ(slabs.stats().slab_bytes, 65536U);
  slabs.reserve(8192, 15 * 8);
  EXPECT_EQ(slabs.stats().slab_bytes, 1U << 20);
}

TEST(Slab, ObjectsAreMadeAndDestroyed) {
  struct alignas(64) Counted {
    explicit Counted(int& n, bool fails = false) : count(&n) {
      if (fails) throw std::runtime_error("no");
      ++*count;
    }
    ~Counted() { --*count; }
    int* count;
  };
  SlabAllocator slabs(small_slabs());
  int alive = 0;
  Counted* const object = slabs.create<Counted>(alive);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % 64, 0U);
  EXPECT_EQ(alive, 1);
  EXPECT_THROW(slabs.create<Counted>(alive, true), std::runtime_error);
  slabs.destroy(object);
  slabs.destroy<Counted>(nullptr);
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(slabs.stats().live_blocks, 0U);
}

TEST(Slab, AFreeOfAFreeBlockIsCountedAtLeast) {
  SlabAllocator slabs(small_slabs());
  void* const block = slabs.allocate(64);
  slabs.deallocate(block);
  slabs.deallocate(block);  // nobody looks, without Hardening
  slabs.trim();
  EXPECT_EQ(slabs.stats().repeated_frees, 1U);
}

TEST(Slab, AForkedChildGoesOn) {
  SlabAllocator slabs(small_slabs());
  void* const block = slabs.allocate(64);
  fill(block, 64, 5);
  EXPECT_TRUE(in_child([&] {
    if (!holds(block, 64, 5)) return false;
    for (int i = 0; i < 5000; ++i) fill(slabs.allocate(64), 64, 6);
    slabs.deallocate(block);
    slabs.trim();
    return slabs.stats().live_blocks == 5000;
  }));
  EXPECT_TRUE(holds(block, 64, 5));
  EXPECT_EQ(slabs.stats().live_blocks, 1U);
}

TEST(SlabResource, ServesContainersOfTheStandardLibrary) {
  SlabAllocator slabs(small_slabs());
  SlabResource resource(slabs);
  {
    std::pmr::map<int, std::pmr::string> map(&resource);
    for (int i = 0; i < 2000; ++i) map.emplace(i, std::pmr::string(static_cast<std::size_t>(i % 300), 'x'));
    std::pmr::vector<int> large(&resource);
    large.resize(100000);  // too large for a block: the upstream's
    EXPECT_FALSE(slabs.contains(large.data()));
    EXPECT_TRUE(slabs.contains(&*map.begin()));
    EXPECT_GT(slabs.stats().live_blocks, 2000U);
  }
  EXPECT_EQ(slabs.stats().live_blocks, 0U);
  void* const aligned = resource.allocate(100, 8192);  // as is what is aligned to more than a page
  EXPECT_FALSE(slabs.contains(aligned));
  resource.deallocate(aligned, 100, 8192);

  SlabAllocator others(small_slabs());
  EXPECT_EQ(resource, SlabResource(slabs));
  EXPECT_NE(resource, SlabResource(others));
  EXPECT_EQ(&resource.slabs(), &slabs);
  EXPECT_EQ(resource.upstream(), std::pmr::get_default_resource());
}

}  // namespace
}  // namespace vm::mem::alloc
