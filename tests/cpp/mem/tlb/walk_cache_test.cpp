// The walk cache against a map of live tables, with all scopes of flush, and under concurrent flushes.

#include "vm/mem/tlb/walk_cache.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <thread>
#include <tuple>

#include "vm/core/error.hpp"

namespace vm::mem::tlb {
namespace {

constexpr std::array<unsigned, walk_cache_levels> x86_spans{21, 30, 39, 48};

TEST(WalkCache, TheLowestTableWins) {
  WalkCache cache({}, x86_spans);
  const Context context{1, 2};
  const std::uint64_t vaddr = 0xFFFF'8000'1234'5678;
  EXPECT_FALSE(cache.lookup(vaddr, context));
  cache.insert(vaddr, context, {0x3000, 7, 2}, cache.begin_fill());
  ASSERT_TRUE(cache.lookup(vaddr, context));
  EXPECT_EQ(cache.lookup(vaddr, context)->level, 2);
  cache.insert(vaddr, context, {0x1000, 5, 0}, cache.begin_fill());
  const auto found = cache.lookup(vaddr, context);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->level, 0);
  EXPECT_EQ(found->table, 0x1000U);
  EXPECT_EQ(found->allowances, 5U);
  EXPECT_EQ(cache.lookup(vaddr ^ (1U << 21), context)->level, 2) << "the neighbour shares the upper table only";
  EXPECT_FALSE(cache.lookup(vaddr, {1, 3}));
  EXPECT_FALSE(cache.lookup(vaddr, {2, 2}));
  EXPECT_EQ(cache.stats().levels[0].hits, 1U);
  EXPECT_EQ(cache.stats().levels[2].hits, 3U);
  EXPECT_EQ(cache.stats().misses, 3U);
}

TEST(WalkCache, AFillThatAFlushOvertookIsDropped) {
  WalkCache cache({}, x86_spans);
  const std::uint64_t ticket = cache.begin_fill();
  cache.flush(FlushRequest::page(0x1000));
  cache.insert(0x1000, {}, {0x9000, 7, 0}, ticket);
  EXPECT_FALSE(cache.lookup(0x1000, {}));
  EXPECT_EQ(cache.stats().levels[0].fills, 0U);
}

TEST(WalkCache, LevelsThatAreOffStayEmpty) {
  WalkCache cache(WalkCacheConfig::off(), x86_spans);
  for (int level = -1; level <= walk_cache_levels; ++level) cache.insert(0, {}, {0x1000, 7, level}, cache.begin_fill());
  EXPECT_FALSE(cache.lookup(0, {}));
  cache.flush(FlushRequest::all());
  EXPECT_THROW(WalkCache({{1U << 21, 0, 0, 0}}, x86_spans), InvalidConfig);
}

using Key = std::tuple<int, std::uint64_t, std::uint16_t, std::uint16_t>;

bool covered(const FlushRequest& r, const Key& key) {
  const auto& [level, span, asid, vmid] = key;
  if (r.scope == FlushScope::all) return true;
  if (vmid != r.context.vmid) return false;
  if (r.scope == FlushScope::non_global) return true;
  if (asid != r.context.asid) return false;
  if (r.scope == FlushScope::asid) return true;
  const unsigned shift = x86_spans[static_cast<std::size_t>(level)];
  const std::uint64_t first = span << shift, last = first + ((std::uint64_t{1} << shift) - 1);
  return r.size != 0 && first <= r.vaddr + (r.size - 1) && r.vaddr <= last;
}

TEST(WalkCache, AnswersOnlyWhatIsLive) {
  std::mt19937_64 random(1);
  WalkCache cache({{16, 8, 4, 2}}, x86_spans);
  std::map<Key, std::uint64_t> live;
  std::uint64_t answered = 0;
  for (int step = 0; step < 200'000; ++step) {
    const std::uint64_t vaddr = (random() % 8) << 39 | (random() % 4) << 30 | (random() % 16) << 21;
    const Context context{static_cast<std::uint16_t>(random() % 3), static_cast<std::uint16_t>(random() % 2)};
    const auto key = [&](int level) {
      return Key{level, vaddr >> x86_spans[static_cast<std::size_t>(level)], context.asid, context.vmid};
    };
    if (random() % 100 == 0) {
      const auto scope = static_cast<FlushScope>(random() % 5);
      const std::uint64_t size = scope == FlushScope::page ? 1 : random() % (std::uint64_t{1} << 33);
      const FlushRequest request{scope, vaddr, size, context};
      cache.flush(request);
      for (auto it = live.begin(); it != live.end();) it = covered(request, it->first) ? live.erase(it) : std::next(it);
    } else if (random() % 3 == 0) {
      const int level = static_cast<int>(random() % walk_cache_levels);
      live[key(level)] = random();
      cache.insert(vaddr, context, {live[key(level)], 7, level}, cache.begin_fill());
    } else if (const auto found = cache.lookup(vaddr, context)) {
      ++answered;
      const auto known = live.find(key(found->level));
      ASSERT_NE(known, live.end());
      EXPECT_EQ(known->second, found->table);
    }
  }
  EXPECT_GT(answered, 10'000U);
}

// The table's address carries the version that was current when it was read; a look-up that begins after a flush has
// returned must not see an older one.
TEST(WalkCache, AfterAFlushNoThreadSeesTheOldTable) {
  WalkCache cache({}, x86_spans);
  std::atomic<std::uint64_t> tables{1}, flushed{1};
  std::atomic<bool> stop{false};
  const auto reader = [&] {
    while (!stop) {
      const std::uint64_t least = flushed.load(std::memory_order_acquire);
      if (const auto found = cache.lookup(0x1234'5000, {})) {
        ASSERT_GE(found->table, least);
      } else {
        const std::uint64_t ticket = cache.begin_fill();
        cache.insert(0x1234'5000, {}, {tables.load(std::memory_order_acquire), 7, 0}, ticket);
      }
    }
  };
  std::thread first(reader), second(reader);
  for (std::uint64_t version = 2; version < 20'000; ++version) {
    tables.store(version, std::memory_order_release);
    cache.flush(version % 2 == 0 ? FlushRequest::page(0x1234'5000) : FlushRequest::all());
    flushed.store(version, std::memory_order_release);
  }
  stop = true;
  first.join();
  second.join();
}

}  // namespace
}  // namespace vm::mem::tlb
