// Distance and Markov prefetching.

#include <gtest/gtest.h>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/prefetch/distance.hpp"
#include "vm/mem/prefetch/markov.hpp"

namespace {

using namespace vm::mem::prefetch;
using namespace vm::mem::prefetch::test;

// The paper's own example: the reference string 1, 2, 4, 5, 7, 8 has the distances 1, 2, 1, 2, 1: two rows suffice.
TEST(PrefetchDistance, ProposesTheDistancesThatFollowed) {
  Distance prefetcher(DistanceConfig{2, 1, 2});
  EXPECT_EQ(after(prefetcher, {1, 2, 4}), Pages{}) << "1 was followed by 2; what follows 2 is not known";
  EXPECT_EQ(observe(prefetcher, 5), (Pages{7})) << "after 1 comes 2";
  EXPECT_EQ(observe(prefetcher, 7), (Pages{8})) << "after 2 comes 1";
  EXPECT_EQ(observe(prefetcher, 8), (Pages{10}));
}

TEST(PrefetchDistance, FollowsASequentialRunAfterThreePages) {
  Distance prefetcher;
  EXPECT_EQ(after(prefetcher, {10, 11}), Pages{});
  EXPECT_EQ(observe(prefetcher, 12), (Pages{13}));
}

TEST(PrefetchDistance, RemembersSeveralDistancesMostRecentFirst) {
  Distance prefetcher;
  // 1 is followed by 10, then by 20, then by 30: two slots.
  EXPECT_EQ(after(prefetcher, {0, 1, 11, 12}), (Pages{22}));
  EXPECT_EQ(after(prefetcher, {32, 33}), (Pages{53, 43}));
  EXPECT_EQ(after(prefetcher, {63, 64}), (Pages{94, 84}));
}

TEST(PrefetchDistance, WorksBackwardsAndAtTheEnds) {
  Distance prefetcher;
  EXPECT_EQ(after(prefetcher, {4, 2}), Pages{});
  EXPECT_EQ(observe(prefetcher, 0), Pages{}) << "-2 would be next";
  prefetcher.reset();
  EXPECT_EQ(after(prefetcher, run(max_page - 4, 2, 3)), Pages{});
  prefetcher.reset();
  EXPECT_EQ(after(prefetcher, run(max_page - 6, 2, 3)), (Pages{max_page}));
}

TEST(PrefetchDistance, PassesOverRepetitions) {
  Distance prefetcher;
  EXPECT_EQ(after(prefetcher, {10, 11, 11, 11, 12}), (Pages{13}));
  EXPECT_EQ(observe(prefetcher, 12), Pages{});
}

TEST(PrefetchDistance, IsDirectMappedByDefault) {
  Distance prefetcher(DistanceConfig{4, 1, 2});
  after(prefetcher, {0, 1, 3});    // row 1: distance 2
  after(prefetcher, {8, 10, 11});  // 5 and 1 share a row: 5 is followed by 2, so the row of 1 is gone
  EXPECT_EQ(after(prefetcher, {100, 101}), Pages{});
}

TEST(PrefetchDistance, SurvivesAlternatingEnds) {
  Distance prefetcher;
  for (int i = 0; i < 100; ++i) {
    for (const std::uint64_t page : {std::uint64_t{0}, max_page})
      for (const std::uint64_t proposed : observe(prefetcher, page)) EXPECT_LE(proposed, max_page);
  }
  EXPECT_EQ(observe(prefetcher, 0), (Pages{max_page}));
}

TEST(PrefetchDistance, ChecksItsConfiguration) {
  EXPECT_THROW(Distance(DistanceConfig{0, 1, 2}), vm::InvalidConfig);
  EXPECT_THROW(Distance(DistanceConfig{7, 2, 2}), vm::InvalidConfig);
  EXPECT_THROW(Distance(DistanceConfig{1U << 21, 1, 2}), vm::InvalidConfig);
  EXPECT_THROW(Distance(DistanceConfig{32, 32, 2}), vm::InvalidConfig);
  EXPECT_THROW(Distance(DistanceConfig{8, 1, 0}), vm::InvalidConfig);
  EXPECT_THROW(Distance(DistanceConfig{8, 1, 9}), vm::InvalidConfig);
}

TEST(PrefetchMarkov, ProposesTheSuccessors) {
  Markov prefetcher;
  EXPECT_EQ(after(prefetcher, {5, 900, 33, 5}), (Pages{900}));
  EXPECT_EQ(observe(prefetcher, 77), Pages{});
  EXPECT_EQ(observe(prefetcher, 5), (Pages{77, 900}));
  EXPECT_EQ(after(prefetcher, {88, 5}), (Pages{88, 77})) << "two slots";
  EXPECT_EQ(observe(prefetcher, 5), (Pages{88, 77})) << "a page does not follow itself";
}

TEST(PrefetchMarkov, FollowsAChainOfPointersTheSecondTime) {
  Markov prefetcher;
  const Pages chain = scattered(500, 1);
  after(prefetcher, chain);
  observe(prefetcher, chain[0]);
  for (std::size_t i = 1; i + 1 < chain.size(); ++i) EXPECT_EQ(observe(prefetcher, chain[i]), (Pages{chain[i + 1]}));
}

TEST(PrefetchMarkov, ForgetsTheLeastRecentPage) {
  Markov prefetcher(MarkovConfig{2, 2, 1});
  after(prefetcher, {1, 2, 3, 4});  // rows of 2 and 3
  EXPECT_EQ(observe(prefetcher, 1), Pages{});
  prefetcher.reset();
  EXPECT_EQ(after(prefetcher, {1, 2, 3, 2}), (Pages{3}));
}

TEST(PrefetchMarkov, KnowsPageZero) {
  Markov prefetcher;
  EXPECT_EQ(after(prefetcher, {0, max_page, 0}), (Pages{max_page}));
  EXPECT_EQ(observe(prefetcher, max_page), (Pages{0}));
}

TEST(PrefetchMarkov, ChecksItsConfiguration) {
  EXPECT_THROW(Markov(MarkovConfig{0, 1, 2}), vm::InvalidConfig);
  EXPECT_THROW(Markov(MarkovConfig{7, 2, 2}), vm::InvalidConfig);
  EXPECT_THROW(Markov(MarkovConfig{8, 2, 9}), vm::InvalidConfig);
}

}  // namespace
