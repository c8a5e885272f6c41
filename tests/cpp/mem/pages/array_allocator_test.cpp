// malloc for arrays: against a model, by many threads at once, across fork; and what else of this room has threads.

#include "vm/mem/pages/array_allocator.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"
#include "vm/mem/pages/page_block.hpp"

namespace vm::mem {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

ArrayAllocatorOptions options(std::uint64_t alignment, bool huge_pages = true, std::uint64_t retain = 64 * mib) {
  ArrayAllocatorOptions result;
  result.alignment = alignment;
  result.huge_pages = huge_pages;
  result.retain = retain;
  return result;
}

bool aligned(const void* array, std::uint64_t alignment) {
  return reinterpret_cast<std::uintptr_t>(array) % alignment == 0;
}

/// First, last and some bytes between: enough to notice a move that lost some, and cheap for large arrays.
void mark(std::byte* array, std::uint64_t size, unsigned seed) {
  for (std::uint64_t at = 0; at < size; at += 509) array[at] = std::byte(seed + at);
  array[size - 1] = std::byte(seed);
}
bool marked(const std::byte* array, std::uint64_t size, std::uint64_t whole, unsigned seed) {
  for (std::uint64_t at = 0; at < size; at += 509) {
    if (array[at] != std::byte(seed + at) && at != whole - 1) return false;
  }
  return size < whole || array[size - 1] == std::byte(seed);
}

struct Live {
  std::byte* array;
  std::uint64_t size;
  unsigned seed;
};

std::uint64_t some_size(std::mt19937& random) {
  const std::uint64_t sizes[] = {1, 64, 1000, 70'000, mib - 1, mib, mib + 1, 2 * mib, 3 * mib + 7, 5 * mib};
  return std::max<std::uint64_t>(1, sizes[random() % std::size(sizes)] - random() % 2);
}

void exercise(ArrayAllocator& allocator, std::uint64_t alignment, unsigned seed, int rounds) {
  std::mt19937 random(seed);
  std::vector<Live> live;
  for (int round = 0; round < rounds; ++round) {
    const unsigned action = random() % 4;
    if (live.size() < 6 && action < 2) {
      Live one = {nullptr, some_size(random), static_cast<unsigned>(random())};
      if (action == 0) {
        one.array = static_cast<std::byte*>(allocator.allocate(one.size));
      } else {
        one.array = static_cast<std::byte*>(allocator.allocate_zeroed(one.size, 1));
        ASSERT_TRUE(std::all_of(one.array, one.array + one.size, [](std::byte b) { return b == std::byte{}; }));
      }
      ASSERT_TRUE(aligned(one.array, alignment));
      mark(one.array, one.size, one.seed);
      live.push_back(one);
    } else if (!live.empty()) {
      Live& one = live[random() % live.size()];
      ASSERT_TRUE(marked(one.array, one.size, one.size, one.seed));
      if (action == 2) {
        const std::uint64_t size = some_size(random);
        const std::uint64_t old = one.size;
        one.array = static_cast<std::byte*>(allocator.reallocate(one.array, size));
        ASSERT_TRUE(aligned(one.array, alignment));
        ASSERT_TRUE(marked(one.array, std::min(old, size), old, one.seed));
        one.size = size;
        mark(one.array, one.size, one.seed);
      } else {
        allocator.free(one.array);
        one = live.back();
        live.pop_back();
      }
    }
  }
  for (const Live& one : live) allocator.free(one.array);
}

TEST(ArrayAllocator, KeepsEveryByteAndEveryAlignment) {
  for (const std::uint64_t alignment : {std::uint64_t{16}, std::uint64_t{64}, std::uint64_t{4096}, 2 * mib}) {
    for (const bool huge_pages : {false, true}) {
      ArrayAllocator allocator(options(alignment, huge_pages));
      exercise(allocator, alignment, 11, 100);
      const ArrayAllocatorStats stats = allocator.stats();
      EXPECT_EQ(stats.allocations, stats.frees);
      EXPECT_EQ(stats.bytes_in_use, 0U);
      EXPECT_GT(stats.reallocations, 0U);
      EXPECT_GT(stats.reused, 0U);
      EXPECT_GT(stats.peak_bytes, 0U);
      EXPECT_LE(stats.retained_bytes, 64 * mib);
      EXPECT_GE(stats.mapped_bytes, stats.retained_bytes);
      allocator.stop_retaining();
      EXPECT_EQ(allocator.stats().retained_bytes, 0U);
      EXPECT_EQ(allocator.stats().mapped_bytes, 0U);
    }
  }
}

TEST(ArrayAllocator, AlignmentsThatMakeNoSenseAreRefused) {
  for (const std::uint64_t alignment : {std::uint64_t{0}, std::uint64_t{8}, std::uint64_t{48}, 4 * mib}) {
    EXPECT_THROW(ArrayAllocator(options(alignment)), InvalidConfig);
  }
}

TEST(ArrayAllocator, PagesOfAFreedArrayServeTheNext) {
  ArrayAllocator allocator(options(64));
  void* const first = allocator.allocate(4 * mib);
  std::memset(first, 0xFF, 4 * mib);
  allocator.free(first);
  EXPECT_EQ(allocator.stats().retained_bytes, 4 * mib);
  EXPECT_EQ(allocator.stats().reused, 0U);
  void* const second = allocator.allocate(4 * mib - 100);
  EXPECT_EQ(second, first);
  EXPECT_EQ(allocator.stats().reused, 1U);
  EXPECT_EQ(allocator.stats().retained_bytes, 0U);
  EXPECT_EQ(allocator.reallocate(second, 3 * mib), second);  // still fits well
  allocator.free(second);
  auto* const zeros = static_cast<std::byte*>(allocator.allocate_zeroed(1, 4 * mib));
  EXPECT_TRUE(std::all_of(zeros, zeros + 4 * mib, [](std::byte b) { return b == std::byte{}; }));
  allocator.free(zeros);
}

TEST(ArrayAllocator, LargeZerosAreLazyZeros) {
  ArrayAllocator allocator(options(4096, false, 256 * mib));
  void* array = allocator.allocate(64 * mib);
  std::memset(array, 0xFF, 64 * mib);
  allocator.free(array);
  array = allocator.allocate_zeroed(8, 8 * mib);
  EXPECT_EQ(allocator.stats().reused, 1U);
  EXPECT_EQ(count_pages(array, 64 * mib).resident, 0U);  // given back instead of cleared
  EXPECT_EQ(static_cast<std::byte*>(array)[64 * mib - 1], std::byte{0});
  allocator.free(array);
}

TEST(ArrayAllocator, TheLimitOnWhatIsKeptHolds) {
  ArrayAllocator allocator(options(64, false, 8 * mib));
  std::vector<void*> arrays;
  for (int i = 0; i < 40; ++i) arrays.push_back(allocator.allocate(mib + mib / 4 * static_cast<std::uint64_t>(i % 4)));
  for (void* array : arrays) {
    allocator.free(array);
    ASSERT_LE(allocator.stats().retained_bytes, 8 * mib);
  }
  EXPECT_GT(allocator.stats().retained_bytes, 4 * mib);
  allocator.free(allocator.allocate(16 * mib));  // more than may be kept at all: the others stay
  EXPECT_GT(allocator.stats().retained_bytes, 4 * mib);
  ArrayAllocator many(options(64, false, 1024 * mib));  // more arrays than places to keep them
  arrays.clear();
  for (int i = 0; i < 50; ++i) arrays.push_back(many.allocate(mib));
  for (void* array : arrays) many.free(array);
  EXPECT_EQ(many.stats().retained_bytes, 40 * mib);
  std::thread(&ArrayAllocator::stop_retaining, &many).join();
  EXPECT_EQ(many.stats().retained_bytes, 8 * mib);  // those of this thread, until it frees another one
  many.free(many.allocate(2 * mib));
  EXPECT_EQ(many.stats().retained_bytes, 0U);
  ArrayAllocator two(options(64, false, 8 * mib));  // what this thread keeps leaves no room for another's
  void* const mine = two.allocate(8 * mib);
  void* const other = two.allocate(8 * mib);
  two.free(mine);
  std::thread([&two, other] { two.free(other); }).join();
  EXPECT_EQ(two.stats().retained_bytes, 8 * mib);
  ArrayAllocator none(options(64, false, 0));
  none.free(none.allocate(mib));
  EXPECT_EQ(none.stats().mapped_bytes, 0U);
}

TEST(ArrayAllocator, WhatCannotBeIsNull) {
  ArrayAllocator allocator;
  EXPECT_EQ(allocator.allocate(std::uint64_t{1} << 62), nullptr);
  EXPECT_EQ(allocator.allocate(UINT64_MAX), nullptr);
  EXPECT_EQ(allocator.allocate_zeroed(UINT64_MAX, 2), nullptr);
  EXPECT_EQ(allocator.allocate_zeroed(std::uint64_t{1} << 33, std::uint64_t{1} << 33), nullptr);
  void* const small = allocator.allocate(10);
  std::memset(small, 7, 10);
  EXPECT_EQ(allocator.reallocate(small, UINT64_MAX), nullptr);
  EXPECT_EQ(static_cast<std::byte*>(small)[9], std::byte{7});  // still there
  EXPECT_EQ(allocator.stats().failures, 5U);
  EXPECT_EQ(allocator.stats().bytes_in_use, 10U);
  allocator.free(small);
  allocator.free(nullptr);
  void* const nothing = allocator.allocate(0);
  EXPECT_NE(nothing, nullptr);
  allocator.free(nothing);
  void* const fresh = allocator.reallocate(nullptr, 5);
  EXPECT_NE(fresh, nullptr);
  allocator.free(fresh);
}

TEST(ArrayAllocator, MoreThanThereIsIsNull) {
  std::ifstream file("/proc/sys/vm/overcommit_memory");
  if (file.get() == '1') GTEST_SKIP() << "this system lets everybody have more memory than there is";
  ArrayAllocator allocator;
  allocator.free(allocator.allocate(mib));
  const std::uint64_t far_too_much = std::uint64_t{1} << 45;
  EXPECT_EQ(allocator.allocate(far_too_much), nullptr);
  EXPECT_EQ(allocator.allocate_zeroed(far_too_much, 1), nullptr);
  void* const array = allocator.allocate(mib);
  EXPECT_EQ(allocator.reallocate(array, far_too_much), nullptr);
  EXPECT_EQ(allocator.stats().failures, 3U);
  allocator.free(array);
}

TEST(ArrayAllocatorConcurrency, ThreadsShareOneAndFreeEachOthersArrays) {
  ArrayAllocator allocator(options(64, true, 16 * mib));
  std::atomic<std::byte*> handed{nullptr};
  std::vector<std::thread> threads;
  for (unsigned id = 0; id < 4; ++id) {
    threads.emplace_back([&allocator, &handed, id] {
      exercise(allocator, 64, id, 40);
      for (unsigned i = 0; i < 200; ++i) {
        auto* mine = static_cast<std::byte*>(allocator.allocate(mib + i));
        std::memset(mine, static_cast<int>(id), 4096);
        if (std::byte* const other = handed.exchange(mine)) {
          const std::byte seen = other[0];
          if (std::any_of(other, other + 4096, [seen](std::byte b) { return b != seen; })) ADD_FAILURE();
          allocator.free(other);
        }
      }
    });
  }
  // In the middle of it, as numpy_allocator does when its block ends.
  threads.emplace_back([&allocator] {
    while (allocator.stats().allocations < 100) std::this_thread::yield();
    allocator.stop_retaining();
  });
  for (std::thread& thread : threads) thread.join();
  allocator.free(handed.load());
  const ArrayAllocatorStats stats = allocator.stats();
  EXPECT_EQ(stats.allocations, stats.frees);
  EXPECT_EQ(stats.bytes_in_use, 0U);
  EXPECT_EQ(stats.retained_bytes, 0U);
  EXPECT_EQ(stats.mapped_bytes, 0U);
}

TEST(PageBlockConcurrency, EveryThreadProtectsPagesOfItsOwn) {
  constexpr std::uint64_t per_thread = 8;
  PageOptions options;
  options.huge_pages = HugePages::none;
  PageBlock block(4 * per_thread * host_page_size(), options);
  const std::uint64_t page = block.page_size();
  std::vector<std::thread> threads;
  for (std::uint64_t id = 0; id < 4; ++id) {
    threads.emplace_back([&block, page, id] {
      std::mt19937 random(static_cast<unsigned>(id));
      for (int round = 0; round < 200; ++round) {
        const std::uint64_t first = id * per_thread + random() % per_thread;
        block.protect(first * page, page, Access::read);
        if (block.protection().at(first * page) != Access::read) ADD_FAILURE();
        block.protect(first * page, page, Access::read | Access::write);
        block.data()[first * page] = std::byte(id);
        block.prefault(first * page, page, 1);
        if (block.protection().ranges().empty()) ADD_FAILURE();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(block.protection().ranges().size(), 1U);
}

TEST(PageBlockConcurrency, APrefaultOfPagesThatLoseTheirRightsIsAnError) {
  constexpr int populate_write = 23;  // MADV_POPULATE_WRITE, younger than some C libraries
  if (::madvise(nullptr, 0, populate_write) != 0) GTEST_SKIP() << "before Linux 5.14 nobody may do that";
  PageOptions options;
  options.huge_pages = HugePages::none;
  PageBlock block(8 * mib, options);
  std::atomic<bool> done{false};
  std::thread other([&block, &done] {
    while (!done) {
      block.protect(0, 8 * mib, Access::read);
      block.protect(0, 8 * mib, Access::read | Access::write);
    }
  });
  for (int round = 0; round < 3000; ++round) {
    try {
      block.prefault(0, 8 * mib, 1);
    } catch (const AccessViolation&) {
    }
  }
  done = true;
  other.join();
  block.prefault();
  EXPECT_EQ(block.resident(), 8 * mib);
}

TEST(PageBlockConcurrency, PrefaultingThreadsShareTheWork) {
  PageBlock block(96 * mib);
  block.data()[50 * mib] = std::byte{3};
  block.prefault(0, 96 * mib, 4);
  EXPECT_EQ(block.resident(), 96 * mib);
  EXPECT_EQ(block.data()[50 * mib], std::byte{3});
}

TEST(ArrayAllocator, AChildGoesOnWithIt) {
  ArrayAllocator allocator(options(64));
  void* const kept = allocator.allocate(2 * mib);
  std::memset(kept, 5, 2 * mib);
  void* const freed = allocator.allocate(4 * mib);
  allocator.free(freed);
  const pid_t child = ::fork();
  if (child == 0) {
    void* const reused = allocator.allocate(4 * mib);
    std::memset(reused, 9, 4 * mib);
    const bool right = reused == freed && static_cast<std::byte*>(kept)[mib] == std::byte{5};
    allocator.free(kept);
    allocator.free(reused);
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(static_cast<std::byte*>(kept)[mib], std::byte{5});
  allocator.free(kept);
}

}  // namespace
}  // namespace vm::mem
