#include "vm/core/counters.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "vm/core/error.hpp"

namespace {

using vm::CounterSet;
using vm::CounterSnapshot;
using vm::CounterWriter;

constexpr std::size_t hits = 0;
constexpr std::size_t misses = 1;

CounterSet make_set() { return CounterSet({"hits", "misses"}); }

TEST(Counters, StartAtZero) { EXPECT_EQ(make_set().snapshot(), CounterSnapshot({"hits", "misses"}, {0, 0})); }

TEST(Counters, NamesMustBeThereAndDifferent) {
  EXPECT_THROW(CounterSet({}), vm::InvalidConfig);
  EXPECT_THROW(CounterSet({"hits", ""}), vm::InvalidConfig);
  EXPECT_THROW(CounterSet({"hits", "hits"}), vm::InvalidConfig);
}

TEST(Counters, NameFindsItsIndex) {
  const CounterSet set = make_set();
  EXPECT_EQ(set.index("misses"), misses);
  try {
    set.index("walks");
    FAIL() << "a name that is not there must be refused";
  } catch (const vm::InvalidConfig& error) {
    EXPECT_STREQ(error.what(), "no counter is called 'walks'; there are: hits, misses");
  }
  EXPECT_THROW(set.snapshot().value("walks"), vm::InvalidConfig);
}

TEST(Counters, IndexBeyondTheSetIsRefused) {
  const CounterSet set = make_set();
  EXPECT_THROW(set.add(2), vm::OutOfRange);
  set.add(hits);  // now the slot is cached: the other path must refuse too
  EXPECT_THROW(set.add(2), vm::OutOfRange);
  EXPECT_THROW(set.writer().add(2), vm::OutOfRange);
  EXPECT_EQ(set.snapshot().value("hits"), 1U);
}

TEST(Counters, WriterAndAddMeetInTheSnapshot) {
  const CounterSet set = make_set();
  CounterWriter writer = set.writer();
  writer.add(hits, 5);
  set.add(hits);
  set.add(misses, 3);
  EXPECT_EQ(set.snapshot().value("hits"), 6U);
  EXPECT_EQ(set.snapshot().value("misses"), 3U);
}

TEST(Counters, CountsStayWhenTheWriterGoes) {
  const CounterSet set = make_set();
  set.writer().add(hits, 7);
  EXPECT_EQ(set.snapshot().value("hits"), 7U);
  set.writer().add(hits, 1);  // reuses the slot: must start from zero there
  EXPECT_EQ(set.snapshot().value("hits"), 8U);
}

TEST(Counters, MovedWriterKeepsItsSlotAndTheOldOneIsEmpty) {
  const CounterSet set = make_set();
  CounterWriter first = set.writer();
  first.add(hits);
  CounterWriter second = std::move(first);
  second.add(hits);
  EXPECT_THROW(first.add(hits), vm::OutOfRange);  // NOLINT(bugprone-use-after-move): its documented state
  first = set.writer();
  first.add(hits);
  second = std::move(first);  // gives the slot it had back
  second.add(misses);
  EXPECT_EQ(set.snapshot(), CounterSnapshot({"hits", "misses"}, {3, 1}));
}

TEST(Counters, WriterOutlivesTheSet) {
  std::optional<CounterSet> set = make_set();
  CounterWriter writer = set->writer();
  set->add(hits);
  set.reset();
  writer.add(hits);
}

TEST(Counters, CopiesAreTheSameCounters) {
  const CounterSet set = make_set();
  const CounterSet copy = set;  // NOLINT(performance-unnecessary-copy-initialization)
  copy.add(hits);
  EXPECT_EQ(set.snapshot().value("hits"), 1U);
}

TEST(Counters, MoreNamesThanOneBlockHolds) {
  std::vector<std::string> names;
  for (int i = 0; i < 50; ++i) names.push_back("counter " + std::to_string(i));
  const CounterSet set(names);
  for (std::size_t i = 0; i < names.size(); ++i) set.add(i, i);
  for (std::size_t i = 0; i < names.size(); ++i) EXPECT_EQ(set.snapshot().value(names[i]), i);
}

TEST(Counters, SlotsOfDifferentWritersShareNoLine) {
  static_assert(alignof(vm::detail::CounterBlock) == 128 && sizeof(vm::detail::CounterBlock) == 128);
}

TEST(Counters, ThreadSwitchesBetweenManySets) {
  // Far beyond the number at which a thread tidies up, with sets that die and sets that stay.
  const CounterSet kept = make_set();
  for (int i = 0; i < 200; ++i) {
    const CounterSet passing = make_set();
    passing.add(misses);
    kept.add(hits);
    EXPECT_EQ(passing.snapshot(), CounterSnapshot({"hits", "misses"}, {0, 1}));
  }
  EXPECT_EQ(kept.snapshot(), CounterSnapshot({"hits", "misses"}, {200, 0}));
}

TEST(Counters, ThreadsAddUpExactly) {
  const CounterSet set = make_set();
  constexpr std::uint64_t rounds = 20000;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&set] {
      for (std::uint64_t i = 0; i < rounds; ++i) set.add(hits);
    });
    threads.emplace_back([&set] {
      CounterWriter writer = set.writer();
      for (std::uint64_t i = 0; i < rounds; ++i) writer.add(misses, 2);
    });
  }
  CounterSnapshot before = set.snapshot();
  for (int i = 0; i < 100; ++i) {
    const CounterSnapshot now = set.snapshot();
    EXPECT_NO_THROW(now - before);  // counts never go back, also while threads come and go
    before = now;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(set.snapshot(), CounterSnapshot({"hits", "misses"}, {4 * rounds, 8 * rounds}));
}

TEST(Counters, ManyShortThreadsReuseSlots) {
  const CounterSet set = make_set();
  for (int i = 0; i < 100; ++i) std::thread([&set] { set.add(hits); }).join();
  EXPECT_EQ(set.snapshot().value("hits"), 100U);
}

TEST(Counters, SetMayDieBeforeItsThreads) {
  std::atomic<int> stage{0};
  std::optional<CounterSet> set = make_set();
  std::thread thread([&] {
    set->add(hits);
    stage.store(1, std::memory_order_release);
    while (stage.load(std::memory_order_acquire) != 2) std::this_thread::yield();
  });
  while (stage.load(std::memory_order_acquire) != 1) std::this_thread::yield();
  EXPECT_EQ(set->snapshot().value("hits"), 1U);
  set.reset();
  stage.store(2, std::memory_order_release);
  thread.join();
}

TEST(Counters, CountingAtTheVeryEndOfAThread) {
  struct CountsWhenDestroyed {
    std::optional<CounterSet> set;
    ~CountsWhenDestroyed() { set->add(hits); }
  };
  const CounterSet set = make_set();
  std::thread([&set] {
    // Made before the thread's first count, hence destroyed after the thread has given its slots back.
    thread_local CountsWhenDestroyed last;
    last.set = set;
    set.add(hits);
  }).join();
  EXPECT_EQ(set.snapshot().value("hits"), 2U);
}

TEST(CounterSnapshots, AddAndSubtract) {
  const CounterSnapshot a({"hits", "misses"}, {10, 1});
  const CounterSnapshot b({"hits", "misses"}, {4, 1});
  EXPECT_EQ(a + b, CounterSnapshot({"hits", "misses"}, {14, 2}));
  EXPECT_EQ(a - b, CounterSnapshot({"hits", "misses"}, {6, 0}));
  EXPECT_NE(a, b);
}

TEST(CounterSnapshots, OnlyTheSameCountersAddUp) {
  CounterSnapshot a({"hits"}, {1});
  EXPECT_THROW(a += CounterSnapshot({"misses"}, {1}), vm::InvalidConfig);
  EXPECT_THROW(a -= CounterSnapshot({"hits", "misses"}, {1, 1}), vm::InvalidConfig);
  EXPECT_THROW(CounterSnapshot({"hits"}, {}), vm::InvalidConfig);
}

TEST(CounterSnapshots, TheEarlierOneIsSubtracted) {
  CounterSnapshot earlier({"hits", "misses"}, {5, 1});
  EXPECT_THROW(earlier -= CounterSnapshot({"hits", "misses"}, {4, 2}), vm::InvalidConfig);
  EXPECT_EQ(earlier, CounterSnapshot({"hits", "misses"}, {5, 1})) << "a refused operation changes nothing";
}

}  // namespace
