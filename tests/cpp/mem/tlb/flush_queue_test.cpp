// Flush policies: when requests reach the TLB, what becomes of them on the way, and that nothing is flushed less.

#include "vm/mem/tlb/flush_queue.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace vm::mem::tlb;

// Writes down what reaches it; each flush takes as long as `cost_ns` says.
class Recorder final : public Tlb {
 public:
  bool lookup(std::uint64_t, Context, Hit&) noexcept override { return false; }
  bool contains(std::uint64_t, Context) const noexcept override { return false; }
  FillTicket begin_fill() const noexcept override { return {}; }
  bool insert(const Entry&, FillTicket) noexcept override { return false; }
  void flush(const FlushRequest& request) noexcept override {
    flushed.push_back(request);
    clock += request.size > 0x1'0000'0000 ? context_ns : page_ns * (request.size / 4096);
  }
  TlbStats stats() const override { return {}; }
  std::size_t size() const noexcept override { return live; }
  std::size_t capacity() const noexcept override { return 1000; }

  std::vector<FlushRequest> flushed;
  std::size_t live = 100;
  std::uint64_t clock = 0, page_ns = 0, context_ns = 0;
};

TlbConfig policy(FlushPolicy p) {
  TlbConfig config;
  config.flush_policy = p;
  config.flush_batch = 4;
  config.flush_delay_ns = 1000;
  return config;
}

TEST(FlushQueue, ImmediateDoesNotWait) {
  Recorder tlb;
  FlushQueue queue(tlb, policy(FlushPolicy::immediate));
  queue.request(FlushRequest::page(0x1234));
  ASSERT_EQ(tlb.flushed.size(), 1U);
  EXPECT_EQ(tlb.flushed[0].vaddr, 0x1234U);
  EXPECT_EQ(queue.pending(), 0U);
  EXPECT_EQ(queue.stats().requests, 1U);
  EXPECT_EQ(queue.stats().carried_out, 1U);
}

TEST(FlushQueue, BatchedWaitsForEnough) {
  Recorder tlb;
  FlushQueue queue(tlb, policy(FlushPolicy::batched));
  for (std::uint64_t i = 0; i < 3; ++i) queue.request(FlushRequest::page(i * 0x10000));
  EXPECT_TRUE(tlb.flushed.empty());
  EXPECT_EQ(queue.pending(), 3U);
  queue.poll();
  EXPECT_TRUE(tlb.flushed.empty());
  queue.request(FlushRequest::asid({1, 0}));
  EXPECT_EQ(tlb.flushed.size(), 4U);
  queue.request(FlushRequest::page(0));
  queue.barrier();
  EXPECT_EQ(tlb.flushed.size(), 5U);
  EXPECT_EQ(queue.stats().barriers, 1U);
}

TEST(FlushQueue, DelayedWaitsForTheClock) {
  Recorder tlb;
  {
    FlushQueue queue(tlb, policy(FlushPolicy::delayed), [&] { return tlb.clock; });
    tlb.clock = 500;
    queue.request(FlushRequest::page(0));
    tlb.clock = 1499;
    queue.poll();
    EXPECT_TRUE(tlb.flushed.empty());
    tlb.clock = 1500;
    queue.poll();
    EXPECT_EQ(tlb.flushed.size(), 1U);
    queue.request(FlushRequest::page(0));
    tlb.clock = 2500;
    queue.request(FlushRequest::page(0x10000));
    EXPECT_EQ(tlb.flushed.size(), 3U) << "the first one's delay is over";
    queue.request(FlushRequest::page(0));
  }
  EXPECT_EQ(tlb.flushed.size(), 4U) << "what waits is carried out at the end";
}

TEST(FlushQueue, NeighboursBecomeOneRange) {
  TlbConfig config = policy(FlushPolicy::batched);
  config.flush_batch = 100;
  Recorder tlb;
  FlushQueue queue(tlb, config);
  queue.request(FlushRequest::page(0x1FFF));
  queue.request(FlushRequest::page(0x3000));
  EXPECT_EQ(queue.pending(), 2U);
  queue.request(FlushRequest::page(0x1000, {1, 0}));
  EXPECT_EQ(queue.pending(), 3U) << "another context";
  queue.request(FlushRequest::page(0x2000));
  EXPECT_EQ(queue.pending(), 2U) << "it joined both of its neighbours";
  queue.request(FlushRequest::range(0x9000, 0));
  EXPECT_EQ(queue.pending(), 2U) << "nothing to flush";
  queue.barrier();
  EXPECT_EQ(tlb.flushed[1].vaddr, 0x1000U);
  EXPECT_EQ(tlb.flushed[1].size, 0x3000U);
  const FlushQueueStats stats = queue.stats();
  EXPECT_EQ(stats.requests, stats.carried_out + stats.merged);

  queue.request(FlushRequest::range(0x5000, UINT64_MAX));
  queue.request(FlushRequest::range(0, 0x6000));
  EXPECT_EQ(queue.pending(), 1U);
  queue.request(FlushRequest::asid({3, 1}));
  queue.request(FlushRequest::asid({4, 1}));
  queue.request(FlushRequest::asid({3, 1}));
  EXPECT_EQ(queue.pending(), 3U);
  queue.request(FlushRequest::non_global(1));
  EXPECT_EQ(queue.pending(), 2U) << "an ASID is a part of its VM";
  queue.request(FlushRequest::all());
  queue.request(FlushRequest::page(0));
  EXPECT_EQ(queue.pending(), 1U);
}

// Whatever is merged: exactly the entries that the requests cover are covered by what reaches the TLB.
TEST(FlushQueue, MergingKeepsWhatIsCovered) {
  std::mt19937_64 random(13);
  TlbConfig config = policy(FlushPolicy::batched);
  config.flush_batch = 1000;
  for (int round = 0; round < 500; ++round) {
    Recorder tlb;
    FlushQueue queue(tlb, config);
    std::vector<FlushRequest> asked;
    for (int i = 0; i < 12; ++i) {
      const Context context{static_cast<std::uint16_t>(random() % 2), static_cast<std::uint16_t>(random() % 2)};
      const std::uint64_t at = random() % 4 == 0 ? UINT64_MAX - random() % 0x8000 : random() % 0x40000;
      FlushRequest request = FlushRequest::range(at, random() % 0x4000, context);
      if (random() % 3 == 0) request = FlushRequest::page(at, context);
      if (random() % 8 == 0) request = FlushRequest::asid(context);
      if (random() % 16 == 0) request = FlushRequest::non_global(context.vmid);
      if (random() % 64 == 0) request = FlushRequest::all();
      asked.push_back(request);
      queue.request(request);
    }
    queue.barrier();
    const auto covered = [](const std::vector<FlushRequest>& requests, const PackedEntry& p) {
      for (const FlushRequest& r : requests)
        if (covers(r, p.tag, p.meta)) return true;
      return false;
    };
    for (int i = 0; i < 400; ++i) {
      Entry e;
      e.size_log2 = i % 5 == 0 ? 16 : 12;
      e.vaddr = random() % 4 == 0 ? UINT64_MAX - random() % 0x8000 : random() % 0x48000;
      e.context = {static_cast<std::uint16_t>(random() % 2), static_cast<std::uint16_t>(random() % 2)};
      e.global = random() % 3 == 0;
      const PackedEntry p = pack(e);
      ASSERT_EQ(covered(asked, p), covered(tlb.flushed, p)) << "round " << round;
    }
  }
}

TEST(FlushQueue, IntelligentFlushesTheContextWhenPagesCostMore) {
  Recorder tlb;
  FlushQueue queue(tlb, policy(FlushPolicy::intelligent), {}, {10, 1, 20});  // context: 1000 * 1 + 100 * 20
  queue.request(FlushRequest::range(0x1000, 300 * 4096, {5, 0}));
  EXPECT_EQ(tlb.flushed.back().size, 300U * 4096);
  EXPECT_DOUBLE_EQ(queue.stats().last_estimate.pages_ns, 3000);
  EXPECT_DOUBLE_EQ(queue.stats().last_estimate.context_ns, 3000);
  EXPECT_FALSE(queue.stats().last_estimate.chose_context);
  queue.request(FlushRequest::range(0x1000, 301 * 4096, {5, 0}));
  EXPECT_TRUE(queue.stats().last_estimate.chose_context);
  EXPECT_EQ(queue.stats().contexts, 1U);
  const FlushRequest wide = tlb.flushed.back();
  Entry global;
  global.vaddr = 0x20000;
  global.global = true;
  EXPECT_TRUE(covers(wide, pack(global).tag, pack(global).meta)) << "a range covers global entries too";
  EXPECT_EQ(wide.context, (Context{5, 0}));
  tlb.live = 1000;
  queue.request(FlushRequest::range(0x1000, 301 * 4096, {5, 0}));
  EXPECT_FALSE(queue.stats().last_estimate.chose_context) << "more would be lost";
  queue.request(FlushRequest::asid({5, 0}));
  EXPECT_EQ(tlb.flushed.back().scope, FlushScope::asid);
  queue.request(FlushRequest::range(0, 0));
  EXPECT_EQ(queue.stats().carried_out, 5U);
}

TEST(FlushQueue, AdaptiveLearnsCostsAndDoesNotFlutter) {
  Recorder tlb;
  tlb.live = 0;
  tlb.page_ns = 100;
  tlb.context_ns = 1000;
  FlushQueue queue(tlb, policy(FlushPolicy::adaptive), [&] { return tlb.clock; }, {1, 1, 0});
  const auto ask = [&](std::uint64_t pages) {
    queue.request(FlushRequest::range(0, pages * 4096));
    return queue.stats().last_estimate.chose_context;
  };
  EXPECT_FALSE(ask(20)) << "20 against 1000, it believes";
  for (int i = 0; i < 100; ++i) ask(1);
  EXPECT_NEAR(queue.stats().costs.per_page, 100, 1);
  EXPECT_FALSE(ask(11)) << "1100 against 1000 is not worth changing its mind";
  EXPECT_TRUE(ask(20));
  EXPECT_TRUE(ask(9)) << "nor 900";
  EXPECT_FALSE(ask(7));
  queue.observe_refill(800);
  EXPECT_NEAR(queue.stats().costs.per_refill, 100, 1e-9);
}

// Threads request, poll and wait behind barriers; the queue alone keeps them apart in the TLB.
TEST(FlushQueue, Threads) {
  for (const FlushPolicy p : {FlushPolicy::delayed, FlushPolicy::batched, FlushPolicy::adaptive}) {
    Recorder tlb;
    std::atomic<std::uint64_t> time{0};
    FlushQueue queue(tlb, policy(p), [&] { return time.fetch_add(1, std::memory_order_relaxed); });
    std::vector<std::thread> threads;
    for (std::uint16_t t = 0; t < 4; ++t)
      threads.emplace_back([&queue, t] {
        for (std::uint64_t i = 0; i < 500; ++i) {
          queue.request(FlushRequest::page(i % 7 << 12, {t, 0}));
          if (i % 16 == 0) queue.barrier();
          queue.poll();
        }
      });
    for (std::thread& thread : threads) thread.join();
    queue.barrier();
    const FlushQueueStats stats = queue.stats();
    EXPECT_EQ(stats.requests, 2000U);
    EXPECT_EQ(stats.carried_out + stats.merged, 2000U);
    EXPECT_EQ(stats.carried_out, tlb.flushed.size());
    EXPECT_EQ(queue.pending(), 0U);
  }
}

}  // namespace
