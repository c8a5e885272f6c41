// Threads and TLBs that go in any order, and what stays of their counts. Leaks and uses of freed memory show under
// AddressSanitizer.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "concurrent_support.hpp"

namespace vm::mem::tlb {
namespace {

using namespace test;

class TlbLifetime : public ConcurrentTlb {};
INSTANTIATE_TEST_SUITE_P(Shapes, TlbLifetime, shapes(), shape_name);

void use(Tlb& tlb) {
  Entry e;
  e.vaddr = 0x1000;
  ASSERT_TRUE(tlb.insert(e, tlb.begin_fill()));
  Hit hit;
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(tlb.lookup(0x1000, {}, hit));
  ASSERT_FALSE(tlb.lookup(0x2000, {}, hit));
}

std::uint64_t all_hits(const Tlb& tlb) {
  std::uint64_t hits = 0;
  for (const LevelStats& level : tlb.stats().levels) hits += level.hits;
  return hits;
}

TEST_P(TlbLifetime, CountsOutliveTheirThreads) {
  const std::unique_ptr<Tlb> tlb = GetParam().make(8);
  for (int i = 0; i < 5; ++i) std::thread([&] { use(*tlb); }).join();
  use(*tlb);
  EXPECT_EQ(all_hits(*tlb), 60U);
  EXPECT_EQ(tlb->stats().levels.back().misses, 6U);
}

TEST_P(TlbLifetime, AThreadOutlivesItsTlbs) {
  std::thread([&] {
    // More than a thread keeps in mind before it tidies up; the next ones may lie where the last ones lay.
    for (int i = 0; i < 100; ++i) {
      const std::unique_ptr<Tlb> tlb = GetParam().make(8);
      use(*tlb);
      EXPECT_EQ(all_hits(*tlb), 10U);
    }
  }).join();
}

TEST_P(TlbLifetime, ManyAtOnce) {
  std::vector<std::unique_ptr<Tlb>> tlbs;
  for (int i = 0; i < 40; ++i) tlbs.push_back(GetParam().make(8));
  for (int round = 0; round < 3; ++round) {
    for (const auto& tlb : tlbs) use(*tlb);
  }
  for (const auto& tlb : tlbs) EXPECT_EQ(all_hits(*tlb), 30U);
}

TEST_P(TlbLifetime, TlbAndThreadEndTogether) {
  for (int round = 0; round < 50; ++round) {
    std::unique_ptr<Tlb> tlb = GetParam().make(8);
    std::atomic<int> used{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        use(*tlb);
        used.fetch_add(1, std::memory_order_acq_rel);
      });
    }
    while (used.load(std::memory_order_acquire) != 3) std::this_thread::yield();
    tlb.reset();  // while the threads give back what they have of it
    for (std::thread& thread : threads) thread.join();
  }
}

struct AtEnd {
  Tlb* tlb = nullptr;
  ~AtEnd() {
    if (tlb != nullptr) use(*tlb);
  }
};
thread_local AtEnd at_end;

TEST_P(TlbLifetime, UsedByADestructorOfTheThread) {
  const std::unique_ptr<Tlb> tlb = GetParam().make(8);
  std::thread([&] {
    at_end.tlb = tlb.get();  // made before the TLB's own part of this thread, so it goes after that
    use(*tlb);
  }).join();
  EXPECT_EQ(all_hits(*tlb), 20U);
}

TEST(ShardedLifetime, AReaderOutlivesItsTlb) {
  auto tlb = std::make_unique<ShardedTlb>(64, 4);
  use(*tlb);
  auto first = std::make_unique<ShardedTlb::Reader>(tlb->reader());
  ShardedTlb::Reader second = tlb->reader();
  Hit hit;
  EXPECT_TRUE(first->lookup(0x1000, {}, hit));
  EXPECT_TRUE(second.lookup(0x1000, {}, hit));
  first.reset();
  EXPECT_EQ(all_hits(*tlb), 12U);
  tlb.reset();
}

TEST(HybridLifetime, AHandleOutlivesItsTlb) {
  auto tlb = std::make_unique<HybridTlb>(16, 4, 64, 4);
  use(*tlb);
  const std::size_t one_thread = tlb->capacity();
  auto first = std::make_unique<HybridTlb::Local>(tlb->local());
  auto second = std::make_unique<HybridTlb::Local>(tlb->local());
  EXPECT_EQ(tlb->capacity(), one_thread + 32);
  Hit hit;
  EXPECT_TRUE(first->lookup(0x1000, {}, hit));
  EXPECT_TRUE(second->lookup(0x1000, {}, hit));
  HybridTlb::Local moved = std::move(*first);
  EXPECT_TRUE(moved.lookup(0x1000, {}, hit));
  EXPECT_EQ(hit.tlb_level, 0);
  first.reset();
  second.reset();
  EXPECT_EQ(all_hits(*tlb), 13U);
  EXPECT_EQ(tlb->capacity(), one_thread + 16);
  tlb.reset();
}

}  // namespace
}  // namespace vm::mem::tlb
