// Allocators that several threads use: producer and consumer, threads that end, forks meanwhile, and a long run.
// Races show under ThreadSanitizer, blocks given out twice in their contents.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <fstream>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "support.hpp"
#include "vm/mem/alloc/pool_allocator.hpp"

#if defined(__has_feature)
#define VM_HAS_FEATURE(name) __has_feature(name)
#else
#define VM_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__) || VM_HAS_FEATURE(thread_sanitizer) || \
    VM_HAS_FEATURE(address_sanitizer)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

namespace vm::mem::alloc {
namespace {

using namespace test;

/// A ring from one thread to another.
class Channel {
 public:
  bool push(void* block) {
    const std::size_t at = written_.load(std::memory_order_relaxed);
    if (at - read_.load(std::memory_order_acquire) == cells_.size()) return false;
    cells_[at % cells_.size()] = block;
    written_.store(at + 1, std::memory_order_release);
    return true;
  }
  void* pop() {
    const std::size_t at = read_.load(std::memory_order_relaxed);
    if (at == written_.load(std::memory_order_acquire)) return nullptr;
    void* const block = cells_[at % cells_.size()];
    read_.store(at + 1, std::memory_order_release);
    return block;
  }

 private:
  std::array<void*, 512> cells_{};
  std::atomic<std::size_t> written_{0};
  std::atomic<std::size_t> read_{0};
};

constexpr unsigned blocks_sent = sanitized ? 50000 : 400000;

void produce(SlabAllocator& slabs, Channel& out, std::size_t size) {
  for (unsigned i = 0; i < blocks_sent; ++i) {
    auto* const block = static_cast<unsigned*>(slabs.allocate(size));
    block[0] = i;
    block[size / sizeof(unsigned) - 1] = ~i;
    while (!out.push(block)) std::this_thread::yield();
  }
}

void consume(SlabAllocator& slabs, Channel& in, std::size_t size) {
  for (unsigned i = 0; i < blocks_sent; ++i) {
    void* received = in.pop();
    while (received == nullptr) {
      std::this_thread::yield();
      received = in.pop();
    }
    const auto* const block = static_cast<unsigned*>(received);
    ASSERT_EQ(block[0], i);
    ASSERT_EQ(block[size / sizeof(unsigned) - 1], ~i);
    slabs.deallocate(received);
  }
}

TEST(SlabThreads, OneAllocatesAndAnotherFrees) {
  SlabConfig config = small_slabs();
  config.cached_bytes = std::uint64_t{1} << 15;  // one magazine of 64 bytes: the way to the slabs is taken too
  SlabAllocator slabs(config);
  // Two pairs of the same size in opposite directions, and one of another.
  std::array<Channel, 3> channels;
  const std::array<std::size_t, 3> sizes = {64, 64, 160};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < channels.size(); ++i) {
    threads.emplace_back([&, i] { produce(slabs, channels[i], sizes[i]); });
    threads.emplace_back([&, i] { consume(slabs, channels[i], sizes[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  const SlabStats stats = slabs.stats();
  EXPECT_EQ(stats.live_blocks, 0U);
  EXPECT_EQ(stats.threads, 0U);
  EXPECT_EQ(stats.repeated_frees, 0U);
  EXPECT_GT(stats.exchanges, 0U);
  slabs.trim();
  EXPECT_EQ(slabs.stats().slab_bytes, 0U);
}

/// Allocates and frees at random, looking whether its blocks stay its own.
void churn(SlabAllocator& slabs, unsigned seed, unsigned steps) {
  std::mt19937 random(seed);
  std::vector<std::pair<void*, std::size_t>> mine;
  for (unsigned step = 0; step < steps; ++step) {
    if (mine.size() < 600 && random() % 2 == 0) {
      const std::size_t size = 16 + random() % 200;
      mine.emplace_back(slabs.allocate(size), size);
      fill(mine.back().first, size, seed);
    } else if (!mine.empty()) {
      std::swap(mine[random() % mine.size()], mine.back());
      ASSERT_TRUE(holds(mine.back().first, mine.back().second, seed));
      slabs.deallocate(mine.back().first, mine.back().second);
      mine.pop_back();
    }
  }
  for (const auto& [block, size] : mine) slabs.deallocate(block, size);
}

TEST(SlabThreads, ThreadsThatEndLeaveTheirMagazines) {
  SlabAllocator slabs(small_slabs());
  for (unsigned round = 0; round < 20; ++round) {
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 4; ++i) {
      threads.emplace_back([&slabs, seed = round * 4 + i] { churn(slabs, seed, sanitized ? 500 : 5000); });
    }
    for (std::thread& thread : threads) thread.join();
    const SlabStats stats = slabs.stats();
    ASSERT_EQ(stats.live_blocks, 0U);
    ASSERT_EQ(stats.threads, 0U);
  }
  // Their blocks are not lost: a few threads' worth was enough for all.
  EXPECT_LE(slabs.stats().slab_bytes, std::uint64_t{4} << 20);
  slabs.trim();
  EXPECT_EQ(slabs.stats().slab_bytes, 0U);
}

TEST(SlabThreads, AThreadMayFreeUntilItsVeryEnd) {
  SlabAllocator slabs(small_slabs());
  struct Late {
    SlabAllocator* slabs = nullptr;
    std::vector<void*> blocks;
    ~Late() {
      for (void* block : blocks) slabs->deallocate(block);
      slabs->deallocate(slabs->allocate(64));
    }
  };
  std::thread([&slabs] {
    static thread_local Late late;  // made before this thread's magazines, so it goes after them
    late.slabs = &slabs;
    for (int i = 0; i < 300; ++i) late.blocks.push_back(slabs.allocate(64));
  }).join();
  EXPECT_EQ(slabs.stats().live_blocks, 0U);
}

TEST(SlabThreads, AThreadOutlivesItsAllocators) {
  std::thread([] {
    for (int i = 0; i < 40; ++i) {
      SlabAllocator one(small_slabs(1 << 18));
      SlabAllocator two(small_slabs(1 << 18));
      for (int j = 0; j < 20; ++j) {
        one.allocate(64);  // still in use when the allocator goes
        two.deallocate(two.allocate(64));
      }
      ASSERT_EQ(one.stats().live_blocks, 20U);
      ASSERT_EQ(two.stats().live_blocks, 0U);
    }
  }).join();
}

TEST(SlabThreads, HardenedBlocksMayCrossThreads) {
  SlabConfig config = small_slabs();
  config.hardening = Hardening::all();
  SlabAllocator slabs(config);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 3; ++i) threads.emplace_back([&slabs, i] { churn(slabs, i, 2000); });
  for (int i = 0; i < 20; ++i) slabs.verify();
  for (std::thread& thread : threads) thread.join();
  slabs.trim();
  EXPECT_EQ(slabs.stats().live_blocks, 0U);
}

TEST(SlabThreads, StatisticsMayBeAskedForMeanwhile) {
  SlabAllocator slabs(small_slabs());
  std::atomic<bool> done{false};
  std::thread worker([&] {
    churn(slabs, 1, 20000);
    done = true;
  });
  std::uint64_t most = 0;
  while (!done) most = std::max(most, slabs.stats().live_blocks);
  worker.join();
  EXPECT_LE(most, 600U + 2 * 2 * detail::magazine_cells * class_count);
  EXPECT_EQ(slabs.stats().live_blocks, 0U);
}

// ThreadSanitizer does not follow a fork of a process with several threads.
TEST(SlabThreads, AForkMeanwhileLeavesAWorkingChild) {
  if (sanitized) GTEST_SKIP() << "sanitizers do not support fork() beside running threads";
  for (const bool hardened : {false, true}) {
    SlabConfig config = small_slabs();
    config.cached_bytes = 0;  // so that the locks of the slabs are often taken
    config.hardening.checks = hardened;
    SlabAllocator slabs(config);
    std::atomic<bool> done{false};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        while (!done) churn(slabs, i, 500);
      });
    }
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(in_child([&slabs] {
        ::alarm(20);  // a lock that nobody will unlock would be waited for without end
        for (unsigned n = 0; n < 500; ++n) fill(slabs.allocate(16 + n % 100), 16, n);
        slabs.trim();
        return slabs.stats().live_blocks >= 500;
      }));
    }
    done = true;
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(slabs.stats().live_blocks, 0U);
  }
}

std::uint64_t resident_bytes() {
  std::ifstream status("/proc/self/statm");
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  status >> size >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

// What a day of work would do, in small: two threads that hand blocks of changing sizes to each other and end, again
// and again. After a while the memory of the process stays what it is.
TEST(SlabThreads, LongWorkDoesNotGrow) {
  SlabAllocator slabs(small_slabs(std::uint64_t{64} << 20));
  const auto day = [&slabs](unsigned seed) {
    std::vector<std::pair<void*, std::size_t>> crossing;
    std::thread([&] {
      std::mt19937 random(seed);
      for (int i = 0; i < 3000; ++i) {
        const std::size_t size = 16 + random() % (std::size_t{64} << seed % 7);
        crossing.emplace_back(slabs.allocate(size), size);
        fill(crossing.back().first, size, seed);
      }
    }).join();
    std::thread([&] {
      for (const auto& [block, size] : crossing) slabs.deallocate(block, size);
      churn(slabs, seed, 3000);
    }).join();
  };
  constexpr unsigned warm_up = 14;
  constexpr unsigned days = sanitized ? 28 : 700;
  for (unsigned i = 0; i < warm_up; ++i) day(i);
  const std::uint64_t before = resident_bytes();
  const std::uint64_t slabs_before = slabs.stats().slab_bytes;
  for (unsigned i = warm_up; i < days; ++i) day(i);
  EXPECT_EQ(slabs.stats().live_blocks, 0U);
  EXPECT_LE(slabs.stats().slab_bytes, slabs_before + (std::uint64_t{2} << 20));
  if (!sanitized) {  // whose own memory grows
    EXPECT_LE(resident_bytes(), before + (std::uint64_t{4} << 20));
  }
}

TEST(PoolThreads, BlocksAreLentToOneAtATime) {
  PoolConfig config;
  config.limits = {0, 3, 2, UINT64_MAX};
  PoolAllocator pool(256, config);
  std::atomic<unsigned> served{0};
  const auto work = [&](unsigned pattern) {
    for (int i = 0; i < (sanitized ? 2000 : 20000); ++i) {
      void* const block = pool.try_allocate();
      if (block == nullptr) continue;
      fill(block, 256, pattern);
      ASSERT_TRUE(holds(block, 256, pattern));
      pool.deallocate(block);
      ++served;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  const PoolStats stats = pool.stats();
  EXPECT_EQ(stats.acquired, served);
  EXPECT_EQ(stats.in_use, 0U);
  EXPECT_LE(stats.peak_in_use, 3U);
}

TEST(PoolThreads, WhoWaitsGetsWhatIsReturned) {
  ObjectPool<int> pool({[] { return std::make_unique<int>(1); }}, {0, 1, 1, UINT64_MAX});
  ObjectPool<int>::Lease lease = pool.acquire();
  std::atomic<bool> got{false};
  std::thread waiting([&] { got = static_cast<bool>(pool.acquire_for(std::uint64_t{60} * 1000000000)); });
  while (pool.stats().refused == 0) std::this_thread::yield();
  lease.release();
  waiting.join();
  EXPECT_TRUE(got);
}

}  // namespace
}  // namespace vm::mem::alloc
