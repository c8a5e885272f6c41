// Sequential, strided and free-neighbour prefetching.

#include <gtest/gtest.h>

#include <set>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/prefetch/free_neighbours.hpp"
#include "vm/mem/prefetch/sequential.hpp"
#include "vm/mem/prefetch/strided.hpp"

namespace {

using namespace vm::mem::prefetch;
using namespace vm::mem::prefetch::test;

TEST(PrefetchSequential, ProposesTheNextPages) {
  Sequential one, three(SequentialConfig{3});
  EXPECT_EQ(observe(one, 0), (Pages{1}));
  EXPECT_EQ(observe(three, 100), (Pages{101, 102, 103}));
  EXPECT_EQ(observe(three, max_page - 1), (Pages{max_page}));
  EXPECT_EQ(observe(three, max_page), Pages{});
  EXPECT_EQ(one.describe(), "Sequential(degree=1)");
}

TEST(PrefetchSequential, CountsAndForgets) {
  Sequential prefetcher(SequentialConfig{2});
  observe(prefetcher, 5);
  observe(prefetcher, max_page);
  for (const Outcome outcome : {Outcome::useful, Outcome::useful, Outcome::useless, Outcome::late, Outcome::refused})
    prefetcher.outcome(6, outcome);
  const Stats stats = prefetcher.stats();
  EXPECT_EQ(stats.events, 2U);
  EXPECT_EQ(stats.proposed, 2U);
  EXPECT_EQ(stats.filtered, 0U);
  EXPECT_EQ(stats.useful, 2U);
  EXPECT_EQ(stats.useless, 1U);
  EXPECT_EQ(stats.late, 1U);
  EXPECT_EQ(stats.refused, 1U);
  EXPECT_DOUBLE_EQ(stats.accuracy(), 0.6);
  prefetcher.reset();
  EXPECT_EQ(prefetcher.stats().events, 0U);
  EXPECT_EQ(prefetcher.stats().accuracy(), 0.0);
}

TEST(PrefetchSequential, IgnoresPagesThatCannotExist) {
  Sequential prefetcher;
  EXPECT_EQ(observe(prefetcher, max_page + 1), Pages{});
  EXPECT_EQ(observe(prefetcher, UINT64_MAX), Pages{});
  EXPECT_EQ(prefetcher.stats().events, 2U);
}

TEST(PrefetchSequential, RefusesSillyDegrees) {
  EXPECT_THROW(Sequential(SequentialConfig{0}), vm::InvalidConfig);
  EXPECT_THROW(Sequential(SequentialConfig{17}), vm::InvalidConfig);
}

// Chen & Baer 1995, figure 3: a steady row survives one odd stride, and then needs the old stride once.
TEST(PrefetchStrided, GoesThroughTheStatesOfTheReferencePredictionTable) {
  Strided prefetcher;
  const std::uint64_t pc = 0x401000;
  EXPECT_EQ(after(prefetcher, {10, 17}, pc), Pages{}) << "transient";
  EXPECT_EQ(observe(prefetcher, 24, pc), (Pages{31})) << "steady";
  EXPECT_EQ(observe(prefetcher, 24, pc), (Pages{31})) << "the same page again says nothing";
  EXPECT_EQ(observe(prefetcher, 100, pc), Pages{}) << "initial";
  EXPECT_EQ(observe(prefetcher, 107, pc), (Pages{114})) << "steady again, with the old stride";
  EXPECT_EQ(after(prefetcher, {200, 300}, pc), Pages{}) << "initial, transient";
  EXPECT_EQ(observe(prefetcher, 500, pc), Pages{}) << "no prediction";
  EXPECT_EQ(observe(prefetcher, 700, pc), Pages{}) << "transient";
  EXPECT_EQ(observe(prefetcher, 900, pc), (Pages{1100})) << "steady";
}

TEST(PrefetchStrided, KeepsInstructionsApart) {
  Strided prefetcher;
  for (std::uint64_t i = 0; i < 10; ++i) {
    const Pages up = observe(prefetcher, 1000 + 3 * i, 1), down = observe(prefetcher, 1000 - 5 * i, 2);
    if (i < 2) continue;
    EXPECT_EQ(up, (Pages{1003 + 3 * i}));
    EXPECT_EQ(down, (Pages{995 - 5 * i}));
  }
}

TEST(PrefetchStrided, ForgetsTheLeastRecentInstruction) {
  StridedConfig config;
  config.rows = config.ways = 2;
  Strided prefetcher(config);
  EXPECT_EQ(after(prefetcher, {1, 2, 3}, 7), (Pages{4}));
  EXPECT_EQ(after(prefetcher, {1, 2, 3}, 8), (Pages{4}));
  EXPECT_EQ(after(prefetcher, {50}, 9), Pages{});
  EXPECT_EQ(observe(prefetcher, 4, 8), (Pages{5}));
  EXPECT_EQ(observe(prefetcher, 4, 7), Pages{});
}

TEST(PrefetchStrided, FollowsStreamsWithoutInstructions) {
  Strided prefetcher;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Pages one = observe(prefetcher, 1'000'000 + 2 * i), two = observe(prefetcher, 2'000'000 - 3 * i);
    if (i < 2) continue;
    EXPECT_EQ(one, (Pages{1'000'002 + 2 * i}));
    EXPECT_EQ(two, (Pages{1'999'997 - 3 * i}));
  }
}

TEST(PrefetchStrided, FindsStridesWiderThanItsWindow) {
  Strided prefetcher;
  EXPECT_EQ(after(prefetcher, run(5, 1'000'000, 3)), (Pages{3'000'005}));
  EXPECT_EQ(observe(prefetcher, 3'000'005), (Pages{4'000'005}));
}

TEST(PrefetchStrided, LooksSeveralStridesAhead) {
  StridedConfig config;
  config.degree = 3;
  Strided prefetcher(config);
  EXPECT_EQ(after(prefetcher, {30, 20, 10}, 1), (Pages{0})) << "and not below page 0";
  EXPECT_EQ(after(prefetcher, {1, 2, 3}, 2), (Pages{4, 5, 6}));
}

TEST(PrefetchStrided, SurvivesHugeAndAlternatingStrides) {
  for (const std::uint64_t pc : {0U, 1U}) {
    StridedConfig config;
    config.degree = 16;
    Strided prefetcher(config);
    for (int i = 0; i < 100; ++i) {
      for (const std::uint64_t page : {std::uint64_t{0}, max_page, std::uint64_t{1}, max_page - 1}) {
        for (const std::uint64_t proposed : observe(prefetcher, page, pc)) EXPECT_LE(proposed, max_page);
      }
    }
  }
}

TEST(PrefetchStrided, ChecksItsConfiguration) {
  const auto refuses = [](auto change) {
    StridedConfig config;
    change(config);
    EXPECT_THROW(Strided{config}, vm::InvalidConfig);
  };
  refuses([](StridedConfig& c) { c.rows = 0; });
  refuses([](StridedConfig& c) { c.rows = 1U << 21; });
  refuses([](StridedConfig& c) { c.ways = 0; });
  refuses([](StridedConfig& c) { c.ways = 17; });
  refuses([](StridedConfig& c) { c.rows = 6; });
  refuses([](StridedConfig& c) { c.streams = 0; });
  refuses([](StridedConfig& c) { c.streams = 65; });
  refuses([](StridedConfig& c) { c.window = 0; });
  refuses([](StridedConfig& c) { c.degree = 0; });
  refuses([](StridedConfig& c) { c.degree = 17; });
}

FreeNeighboursConfig eager() {
  FreeNeighboursConfig config;
  config.threshold = 3;
  return config;
}

TEST(PrefetchFreeNeighbours, LearnsTheDistancesThatAreAskedFor) {
  FreeNeighbours prefetcher(eager());
  // The first page of each line and then its third: distance 2, and -2 for the way back.
  Pages proposed;
  for (std::uint64_t line = 0; line < 10; ++line) {
    proposed = observe(prefetcher, 8 * line);
    observe(prefetcher, 8 * line + 2);
  }
  EXPECT_EQ(proposed, (Pages{8 * 9 + 2}));
  EXPECT_EQ(prefetcher.counter(2), 10U);
  EXPECT_EQ(prefetcher.counter(1), 0U);
  EXPECT_EQ(prefetcher.counter(8), 0U);
  EXPECT_EQ(prefetcher.counter(-8), 0U);
}

TEST(PrefetchFreeNeighbours, NeverLeavesTheLine) {
  FreeNeighboursConfig config;
  config.threshold = 0;
  for (const std::uint32_t group : {2U, 4U, 8U, 16U}) {
    config.group = group;
    FreeNeighbours prefetcher(config);
    std::set<std::uint64_t> proposed;
    for (int round = 0; round < 3; ++round) {
      for (std::uint64_t page = 0; page < 1024; ++page) {
        for (const std::uint64_t candidate : observe(prefetcher, page)) {
          EXPECT_EQ(candidate / group, page / group);
          proposed.insert(candidate);
        }
      }
    }
    EXPECT_GT(proposed.size(), 500U);
    for (const std::uint64_t candidate : observe(prefetcher, max_page)) EXPECT_LE(candidate, max_page);
  }
}

TEST(PrefetchFreeNeighbours, HalvesTheCountersBeforeOneOverflows) {
  FreeNeighboursConfig config = eager();
  config.counter_bits = 4;
  FreeNeighbours prefetcher(config);
  for (std::uint64_t line = 0; line < 14; ++line) after(prefetcher, {8 * line, 8 * line + 1});
  EXPECT_EQ(prefetcher.counter(1), 14U);
  after(prefetcher, {8 * 20, 8 * 20 + 1});
  EXPECT_EQ(prefetcher.counter(1), 7U);
}

TEST(PrefetchFreeNeighbours, ForgetsLinesReadLongAgo) {
  FreeNeighboursConfig config = eager();
  config.lines = 1;
  FreeNeighbours prefetcher(config);
  after(prefetcher, {0, 800, 1});
  EXPECT_EQ(prefetcher.counter(1), 0U) << "the line of 800 took its place";
  after(prefetcher, {1600, 1601});
  EXPECT_EQ(prefetcher.counter(1), 1U);
}

TEST(PrefetchFreeNeighbours, ProposesNothingForRandomPages) {
  FreeNeighbours prefetcher;
  for (const std::uint64_t page : random_pages(5000)) EXPECT_EQ(observe(prefetcher, page), Pages{});
}

TEST(PrefetchFreeNeighbours, ChecksItsConfiguration) {
  const auto refuses = [](auto change) {
    FreeNeighboursConfig config;
    change(config);
    EXPECT_THROW(FreeNeighbours{config}, vm::InvalidConfig);
  };
  refuses([](FreeNeighboursConfig& c) { c.group = 1; });
  refuses([](FreeNeighboursConfig& c) { c.group = 6; });
  refuses([](FreeNeighboursConfig& c) { c.group = 32; });
  refuses([](FreeNeighboursConfig& c) { c.counter_bits = 1; });
  refuses([](FreeNeighboursConfig& c) { c.counter_bits = 17; });
  refuses([](FreeNeighboursConfig& c) { c.threshold = 1023; });
  refuses([](FreeNeighboursConfig& c) { c.lines = 0; });
  refuses([](FreeNeighboursConfig& c) { c.lines = 65537; });
}

}  // namespace
