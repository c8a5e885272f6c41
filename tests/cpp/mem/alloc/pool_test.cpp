// ObjectPool and PoolAllocator, with a clock that the test turns.

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/alloc/pool_allocator.hpp"

namespace vm::mem::alloc {
namespace {

using namespace test;

std::uint64_t clock_ns = 0;
std::uint64_t test_now() { return clock_ns; }

struct Thing {
  explicit Thing(int n) : number(n) {}
  int number;
  bool dirty = false;
  bool broken = false;
};

/// Hooks that number their things from 1 on.
struct Things {
  int made = 0;
  PoolHooks<Thing> hooks() {
    PoolHooks<Thing> hooks;
    hooks.create = [this] { return std::make_unique<Thing>(++made); };
    hooks.reset = [](Thing& thing) { thing.dirty = false; };
    hooks.validate = [](Thing& thing) { return !thing.broken; };
    hooks.now_ns = &test_now;
    return hooks;
  }
};

using Pool = ObjectPool<Thing>;

TEST(ObjectPool, LendsAndTakesBack) {
  Things things;
  Pool pool(things.hooks(), {2, 3, SIZE_MAX, UINT64_MAX});
  EXPECT_EQ(things.made, 2);
  {
    Pool::Lease one = pool.acquire();
    EXPECT_EQ(one->number, 2);
    one->dirty = true;
    Pool::Lease two = pool.acquire();
    EXPECT_EQ((*two).number, 1);
    Pool::Lease three = pool.acquire();
    EXPECT_EQ(three.get()->number, 3);
    EXPECT_FALSE(pool.try_acquire());
    EXPECT_THROW(pool.acquire(), ResourceExhausted);
    EXPECT_THROW(pool.acquire_for(1000), ResourceExhausted);
    EXPECT_FALSE(pool.wait_for(0));
    EXPECT_EQ(pool.stats().in_use, 3U);
    one.release();
    one.release();
    EXPECT_FALSE(one);
    EXPECT_EQ(one.get(), nullptr);
    EXPECT_TRUE(pool.wait_for(0));
    const Pool::Lease again = pool.acquire_for(1000);
    EXPECT_EQ(again->number, 2);
    EXPECT_FALSE(again->dirty);
    Pool::Lease moved = std::move(two);
    EXPECT_EQ(moved->number, 1);
    EXPECT_FALSE(two);  // NOLINT: that is the question
  }
  const PoolStats stats = pool.stats();
  EXPECT_EQ(stats.created, 3U);
  EXPECT_EQ(stats.acquired, 4U);
  EXPECT_EQ(stats.reused, 3U);
  EXPECT_EQ(stats.refused, 3U);
  EXPECT_EQ(stats.idle, 3U);
  EXPECT_EQ(stats.in_use, 0U);
  EXPECT_EQ(stats.peak_in_use, 3U);
}

TEST(ObjectPool, EvictsWhatWasUsedLeastRecently) {
  Things things;
  Pool pool(things.hooks(), {0, 10, 2, UINT64_MAX});
  Pool::Lease one = pool.acquire();
  Pool::Lease two = pool.acquire();
  Pool::Lease three = pool.acquire();
  two.release();
  three.release();
  one.release();
  EXPECT_EQ(pool.stats().evicted_lru, 1U);
  one = pool.acquire();
  three = pool.acquire();
  EXPECT_EQ(one->number, 1);
  EXPECT_EQ(three->number, 3);
}

TEST(ObjectPool, EvictsWhatIsOld) {
  clock_ns = 0;
  Things things;
  Pool pool(things.hooks(), {1, 10, 10, 100});
  std::vector<Pool::Lease> leases;
  for (int i = 0; i < 4; ++i) leases.push_back(pool.acquire());
  for (Pool::Lease& lease : leases) {
    lease.release();
    clock_ns += 40;  // idle since 0, 40, 80, 120; now it is 160
  }
  EXPECT_EQ(pool.stats().idle, 4U - pool.stats().evicted_age);
  EXPECT_EQ(pool.evict() + pool.stats().evicted_age, 2U + pool.stats().evicted_age);
  EXPECT_EQ(pool.stats().evicted_age, 2U);
  EXPECT_EQ(pool.stats().idle, 2U);
  clock_ns += 1000;
  EXPECT_EQ(pool.evict(), 1U);  // one stays, as `min` says
  EXPECT_EQ(pool.evict(), 0U);
  EXPECT_EQ(pool.clear(), 1U);
  EXPECT_EQ(pool.acquire()->number, 5);
}

TEST(ObjectPool, LendsNothingThatIsInvalid) {
  Things things;
  Pool pool(things.hooks(), {3, 3, 3, UINT64_MAX});
  pool.acquire()->broken = true;
  const Pool::Lease lease = pool.acquire();
  EXPECT_EQ(lease->number, 2);
  EXPECT_EQ(pool.stats().invalid, 1U);
  EXPECT_EQ(pool.stats().idle, 1U);
}

TEST(ObjectPool, FailingHooksLoseNothing) {
  bool fails = true;
  Things things;
  PoolHooks<Thing> hooks = things.hooks();
  hooks.create = [&fails] {
    if (fails) throw std::runtime_error("create");
    return std::make_unique<Thing>(1);
  };
  hooks.reset = [&fails](Thing&) {
    if (fails) throw std::runtime_error("reset");
  };
  hooks.validate = [&fails](Thing&) {
    if (fails) throw std::runtime_error("validate");
    return true;
  };
  Pool pool(hooks, {0, 1, 1, UINT64_MAX});
  EXPECT_THROW(pool.acquire(), std::runtime_error);
  fails = false;
  Pool::Lease lease = pool.acquire();
  fails = true;
  EXPECT_THROW(lease.release(), std::runtime_error);
  EXPECT_FALSE(lease);
  fails = false;
  lease = pool.acquire();
  fails = true;
  lease = Pool::Lease();  // a destructor tells nobody
  EXPECT_EQ(pool.stats().failed_resets, 2U);
  fails = false;
  pool.acquire().release();
  fails = true;
  EXPECT_THROW(pool.acquire(), std::runtime_error);
  EXPECT_EQ(pool.stats().invalid, 1U);
  fails = false;
  EXPECT_TRUE(pool.acquire());
}

TEST(ObjectPool, AFailingClockLosesNoRoom) {
  bool fails = false;
  Things things;
  PoolHooks<Thing> hooks = things.hooks();
  hooks.now_ns = [&fails] {
    if (fails) throw std::runtime_error("clock");
    return std::uint64_t{0};
  };
  Pool pool(hooks, {0, 1, 1, UINT64_MAX});
  Pool::Lease lease = pool.acquire();
  fails = true;
  EXPECT_THROW(lease.release(), std::runtime_error);
  fails = false;
  EXPECT_EQ(pool.stats().failed_resets, 1U);
  EXPECT_TRUE(pool.acquire());
}

// What another thread does between a look at the clock and the lock, done by the clock itself.
TEST(ObjectPool, WhatCameBackAfterTheLookAtTheClockIsNotOld) {
  Things things;
  Pool::Lease other;
  std::uint64_t now = 100;
  PoolHooks<Thing> hooks = things.hooks();
  hooks.now_ns = [&] {
    const std::uint64_t seen = now;
    if (Pool::Lease late = std::move(other)) {
      now = 200;
      late.release();
    }
    return seen;
  };
  Pool pool(hooks, {0, 2, 2, 1000});
  other = pool.acquire();
  EXPECT_EQ(pool.acquire()->number, 1);
  EXPECT_EQ(pool.stats().evicted_age, 0U);
}

/// Calls `at_end` while it still exists.
struct Mortal {
  explicit Mortal(std::function<void()> f) : at_end(std::move(f)) {}
  ~Mortal() { at_end(); }
  Mortal(const Mortal&) = delete;
  Mortal& operator=(const Mortal&) = delete;
  std::function<void()> at_end;
};

TEST(ObjectPool, NeverHasMoreThanMaxEvenWhileItDestroys) {
  ObjectPool<Mortal>* self = nullptr;
  int ends = 0;
  bool valid = true;
  bool resets = true;
  std::uint64_t now = 0;
  PoolHooks<Mortal> hooks;
  hooks.create = [&] {
    return std::make_unique<Mortal>([&] {
      ++ends;
      if (self != nullptr) {
        EXPECT_FALSE(self->try_acquire()) << "end " << ends;
      }
    });
  };
  hooks.validate = [&valid](Mortal&) { return std::exchange(valid, true); };
  hooks.reset = [&resets](Mortal&) {
    if (!std::exchange(resets, true)) throw std::runtime_error("reset");
  };
  hooks.now_ns = [&now] { return now; };
  {
    ObjectPool<Mortal> pool(hooks, {0, 1, 1, 100});
    self = &pool;
    pool.acquire().release();
    EXPECT_EQ(pool.clear(), 1U);
    EXPECT_EQ(ends, 1);
    pool.acquire().release();
    now = 1000;
    pool.acquire().release();  // what was too old makes room for a new one
    EXPECT_EQ(ends, 2);
    EXPECT_EQ(pool.stats().evicted_age, 1U);
    EXPECT_EQ(pool.stats().refused, 2U);
    valid = false;
    pool.acquire().release();
    EXPECT_EQ(ends, 3);
    ObjectPool<Mortal>::Lease lease = pool.acquire();
    resets = false;
    EXPECT_THROW(lease.release(), std::runtime_error);
    EXPECT_EQ(ends, 4);
    EXPECT_TRUE(pool.acquire());
    now = 2000;
    EXPECT_EQ(pool.evict(), 1U);
    EXPECT_EQ(ends, 5);
    self = nullptr;
  }
  ObjectPool<Mortal> keeps_none(hooks, {0, 1, 0, UINT64_MAX});
  self = &keeps_none;
  keeps_none.acquire().release();
  EXPECT_EQ(ends, 6);
  EXPECT_EQ(keeps_none.stats().evicted_lru, 1U);
  EXPECT_TRUE(keeps_none.acquire());
  EXPECT_EQ(ends, 7);
  self = nullptr;
}

TEST(ObjectPool, LeasesMayOutliveIt) {
  Things things;
  Pool::Lease lease;
  {
    Pool pool(things.hooks());
    lease = pool.acquire();
  }
  lease->number = 7;
  lease.release();
}

TEST(ObjectPool, RefusesLimitsThatMakeNoSense) {
  Things things;
  EXPECT_THROW(Pool(things.hooks(), {2, 1, 1, 1}), InvalidConfig);
  EXPECT_THROW(Pool(things.hooks(), {0, 0, 1, 1}), InvalidConfig);
}

TEST(ObjectPool, AHookMayUseThePool) {
  Things things;
  Pool* self = nullptr;
  PoolHooks<Thing> hooks = things.hooks();
  hooks.reset = [&self](Thing& thing) {
    if (thing.number == 1) {
      EXPECT_EQ(self->acquire()->number, 2);
    }
  };
  Pool pool(hooks);
  self = &pool;
  pool.acquire().release();
  EXPECT_EQ(pool.stats().idle, 2U);
}

PoolConfig few_blocks() {
  PoolConfig config;
  config.limits = {0, 4, 4, 1000};
  config.now_ns = &test_now;
  return config;
}

TEST(Pool, BlocksAreAlignedAndApart) {
  for (const std::size_t size : {1U, 100U, 4096U, 100000U}) {
    PoolAllocator pool(size, few_blocks());
    std::vector<void*> blocks;
    for (unsigned i = 0; i < 4; ++i) {
      blocks.push_back(pool.allocate());
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(blocks[i]) % 64, 0U);
      fill(blocks[i], size, i);
    }
    EXPECT_EQ(pool.try_allocate(), nullptr);
    EXPECT_THROW(pool.allocate(), ResourceExhausted);
    for (unsigned i = 0; i < 4; ++i) {
      EXPECT_TRUE(holds(blocks[i], size, i));
      pool.deallocate(blocks[i]);
    }
    pool.deallocate(nullptr);
    EXPECT_EQ(pool.try_allocate(), blocks[3]);
    EXPECT_EQ(pool.block_size(), size);
    EXPECT_GE(pool.stride(), size);
    EXPECT_EQ(pool.limits().max, 4U);
  }
}

TEST(Pool, FindsWrongFrees) {
  PoolAllocator pool(1000, few_blocks());
  auto* const block = static_cast<std::byte*>(pool.allocate());
  EXPECT_THROW(pool.deallocate(block + 1), AccessViolation);
  EXPECT_THROW(pool.deallocate(block + pool.stride()), AccessViolation);
  EXPECT_THROW(pool.deallocate(block - pool.stride()), AccessViolation);
  EXPECT_THROW(pool.deallocate(&pool), AccessViolation);
  pool.deallocate(block);
  EXPECT_THROW(pool.deallocate(block), DoubleFree);
}

TEST(Pool, EvictionGivesPagesBack) {
  clock_ns = 0;
  PoolConfig config = few_blocks();
  config.limits.min = 1;
  PoolAllocator pool(1 << 16, config);
  EXPECT_EQ(pool.mapping()->resident(0, 1 << 16), 1U << 16);  // `min` blocks are there before anybody asks
  EXPECT_EQ(pool.stats().idle, 1U);
  void* const one = pool.allocate();
  void* const two = pool.allocate();
  fill(one, 1 << 16, 1);
  fill(two, 1 << 16, 2);
  EXPECT_EQ(pool.mapping()->resident(0, 2 << 16), 2U << 16);
  pool.deallocate(two);
  pool.deallocate(one);
  clock_ns = 2000;
  EXPECT_EQ(pool.evict(), 1U);
  EXPECT_EQ(pool.mapping()->resident(0, 2 << 16), 1U << 16);
  EXPECT_EQ(pool.allocate(), one);
  EXPECT_TRUE(holds(one, 1 << 16, 1));
  EXPECT_EQ(pool.allocate(), two);
  EXPECT_TRUE(holds(two, 1 << 16, 0));
  pool.deallocate(one);
  EXPECT_EQ(pool.clear(), 1U);
}

TEST(Pool, RefusesWhatMakesNoSense) {
  PoolConfig config = few_blocks();
  EXPECT_THROW(PoolAllocator(0, config), InvalidConfig);
  EXPECT_THROW(PoolAllocator(std::size_t{1} << 50, config), InvalidConfig);
  config.alignment = 48;
  EXPECT_THROW(PoolAllocator(64, config), InvalidConfig);
  config.alignment = 1 << 20;
  EXPECT_THROW(PoolAllocator(64, config), InvalidConfig);
  config = few_blocks();
  config.limits.max = SIZE_MAX;
  EXPECT_THROW(PoolAllocator(64, config), InvalidConfig);
}

}  // namespace
}  // namespace vm::mem::alloc
