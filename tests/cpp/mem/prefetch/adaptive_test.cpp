// The chooser on streams that are the home of one member each, and what all prefetchers have in common.

#include "vm/mem/prefetch/adaptive.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/prefetch/distance.hpp"
#include "vm/mem/prefetch/perceptron.hpp"
#include "vm/mem/prefetch/sequential.hpp"

namespace {

using namespace vm::mem::prefetch;
using namespace vm::mem::prefetch::test;

enum Member { sequential, strided, distance, markov, free_neighbours };

/// 700 pages in an order without a pattern, four times: more than the TLB is taken to hold, fewer than Markov does.
Pages chain(unsigned seed = 7) {
  const Pages once = scattered(700, seed);
  Pages pages;
  for (int i = 0; i < 4; ++i) pages.insert(pages.end(), once.begin(), once.end());
  return pages;
}

/// Two pages of a line, at a distance that a scattered line follows: only neighbours have a pattern.
Pages neighbours(std::size_t lines) {
  Pages pages;
  for (const std::uint64_t page : random_pages(lines)) {
    pages.push_back(page & ~std::uint64_t{7});
    pages.push_back((page & ~std::uint64_t{7}) + 5);
  }
  return pages;
}

TEST(PrefetchAdaptive, FollowsWhoIsAtHome) {
  const std::pair<Member, Pages> homes[] = {
      {sequential, run(1000, 1, 1000)},
      {distance, steps(1 << 20, {3, 1000, 47, 2000}, 1000)},
      {markov, chain()},
      {free_neighbours, neighbours(1000)},
  };
  for (const auto& [member, pages] : homes) {
    Adaptive prefetcher(default_members());
    after(prefetcher, pages);
    EXPECT_EQ(prefetcher.followed(), member) << prefetcher.describe();
    EXPECT_GT(prefetcher.stats().proposed, 0U);
  }
}

TEST(PrefetchAdaptive, FollowsTheStridesOfInstructionsThatTakeTurnsAtRandom) {
  Adaptive prefetcher(default_members());
  std::mt19937_64 random(5);
  Pages next = run(1 << 30, 1 << 25, 6);
  for (int i = 0; i < 2000; ++i) {
    const std::size_t turn = random() % next.size();
    observe(prefetcher, next[turn] += 37 + 64 * turn, 0x400 + turn);
  }
  EXPECT_EQ(prefetcher.followed(), strided);
}

TEST(PrefetchAdaptive, IsContentWithEitherOnOneStride) {
  for (const std::int64_t stride : {37, -100'000}) {
    Adaptive prefetcher(default_members());
    after(prefetcher, run(1'000'000'000, stride, 1000));
    EXPECT_TRUE(prefetcher.followed() == strided || prefetcher.followed() == distance);
    EXPECT_GT(prefetcher.score(static_cast<std::size_t>(prefetcher.followed())).coverage, 0.99);
  }
}

TEST(PrefetchAdaptive, FollowsNobodyOnRandomPages) {
  Adaptive prefetcher(default_members());
  for (const std::uint64_t page : random_pages(5000)) EXPECT_EQ(observe(prefetcher, page), Pages{});
  EXPECT_EQ(prefetcher.followed(), Decision::none);
  EXPECT_EQ(prefetcher.decision_count(), 0U);
  EXPECT_GT(prefetcher.stats().filtered, 0U);
}

TEST(PrefetchAdaptive, FollowsThePhasesAndSaysWhy) {
  Adaptive prefetcher(default_members());
  after(prefetcher, run(1000, 1, 1000));
  after(prefetcher, steps(1 << 20, {3, 1000, 47, 2000}, 1000));
  after(prefetcher, random_pages(1000));
  const std::vector<Decision> decisions = prefetcher.decisions();
  ASSERT_GE(decisions.size(), 3U);
  EXPECT_EQ(decisions.front().from, Decision::none);
  EXPECT_EQ(decisions.front().to, sequential);
  EXPECT_EQ(decisions.front().event, 2U);
  EXPECT_EQ(decisions.back().to, Decision::none);
  for (std::size_t i = 0; i < decisions.size(); ++i) {
    EXPECT_EQ(decisions[i].scores.size(), prefetcher.size());
    if (i > 0) {
      EXPECT_EQ(decisions[i].from, decisions[i - 1].to);
    }
  }
  const auto to_distance =
      std::find_if(decisions.begin(), decisions.end(), [](const Decision& d) { return d.to == distance; });
  ASSERT_NE(to_distance, decisions.end());
  EXPECT_GT(to_distance->scores[distance].score, to_distance->scores[sequential].score);
  EXPECT_LT(to_distance->event, 1000U + 300U);
}

TEST(PrefetchAdaptive, DoesNotHopBetweenEquals) {
  std::vector<std::unique_ptr<Prefetcher>> twins;
  twins.push_back(std::make_unique<Sequential>(SequentialConfig{2}));
  twins.push_back(std::make_unique<Sequential>(SequentialConfig{2}));
  Adaptive prefetcher(std::move(twins));
  after(prefetcher, run(0, 1, 5000));
  EXPECT_EQ(prefetcher.decision_count(), 1U);
  EXPECT_EQ(prefetcher.followed(), 0);
}

TEST(PrefetchAdaptive, MeasuresAccuracyAndCoverage) {
  std::vector<std::unique_ptr<Prefetcher>> members;
  members.push_back(std::make_unique<Sequential>(SequentialConfig{2}));
  AdaptiveConfig config;
  config.walk_price = 0.5;
  Adaptive prefetcher(std::move(members), config);
  EXPECT_EQ(prefetcher.score(0).score, 0.0);
  after(prefetcher, run(0, 2, 2000));  // every second proposal is right, and it has them all
  const MemberScore score = prefetcher.score(0);
  EXPECT_NEAR(score.accuracy, 0.5, 0.01);
  EXPECT_NEAR(score.coverage, 1.0, 0.01);
  EXPECT_NEAR(score.score, 0.5, 0.02);
  EXPECT_EQ(prefetcher.member(0).stats().useful, 1999U);
  EXPECT_THROW(prefetcher.member(1), std::out_of_range);
}

TEST(PrefetchAdaptive, KeepsItsThresholds) {
  AdaptiveConfig config;
  config.accuracy = 0.6;
  std::vector<std::unique_ptr<Prefetcher>> members;
  members.push_back(std::make_unique<Sequential>(SequentialConfig{2}));
  Adaptive choosy(std::move(members), config);
  after(choosy, run(0, 2, 2000));
  EXPECT_EQ(choosy.followed(), Decision::none);
  after(choosy, run(10000, 1, 2000));
  EXPECT_EQ(choosy.followed(), 0);
}

TEST(PrefetchAdaptive, PassesRefusalsOn) {
  std::vector<std::unique_ptr<Prefetcher>> members;
  members.push_back(std::make_unique<Sequential>());
  Adaptive prefetcher(std::move(members));
  observe(prefetcher, 5);
  prefetcher.outcome(6, Outcome::refused);
  prefetcher.outcome(9, Outcome::refused);
  EXPECT_EQ(prefetcher.member(0).stats().refused, 1U) << "9 was nobody's";
  EXPECT_EQ(prefetcher.stats().refused, 2U);
  observe(prefetcher, 6);
  EXPECT_EQ(prefetcher.member(0).stats().useful, 0U);
}

TEST(PrefetchAdaptive, CreditsNobodyWithPagesThatFault) {
  Adaptive prefetcher(default_members());
  for (std::uint64_t page = 0; page < 2000; ++page) {
    prefetcher.faulted(page);
    EXPECT_EQ(observe(prefetcher, page), Pages{});  // nobody could have had it
  }
  EXPECT_EQ(prefetcher.decision_count(), 0U);
  EXPECT_EQ(prefetcher.score(sequential).coverage, 0.0);
  EXPECT_LT(prefetcher.score(sequential).score, 0.0) << "walks for nothing";
  EXPECT_EQ(prefetcher.member(sequential).stats().refused, 1999U);
  EXPECT_EQ(prefetcher.member(sequential).stats().useful, 0U);
  EXPECT_EQ(prefetcher.stats().events, 2000U) << "a fault is no event";

  // The same pages again, now mapped: followed as soon as anybody was right, whatever was refused before.
  after(prefetcher, {0, 1});
  EXPECT_NE(prefetcher.followed(), Decision::none);
}

/// A run of two pages among seven that nobody can predict: one proposal in eight is right.
Pages seldom(std::size_t groups, unsigned seed) {
  Pages pages;
  const Pages some = scattered(8 * groups, seed);
  for (std::size_t i = 0; i < groups; ++i) {
    pages.insert(pages.end(), some.begin() + static_cast<std::ptrdiff_t>(8 * i),
                 some.begin() + static_cast<std::ptrdiff_t>(8 * i + 8));
    pages.back() = pages[pages.size() - 2] + 1;
  }
  return pages;
}

TEST(PrefetchAdaptive, AFillForNothingCostsWhatItPushesOut) {
  AdaptiveConfig config;
  config.window = 256;
  config.accuracy = 0;
  std::vector<std::unique_ptr<Prefetcher>> members;
  members.push_back(std::make_unique<Sequential>());
  Adaptive prefetcher(std::move(members), config);
  const Pages pages = seldom(250, 3);
  after(prefetcher, pages);
  EXPECT_EQ(prefetcher.followed(), 0) << "there is room";
  for (int again = 0; again < 3; ++again) after(prefetcher, pages);
  EXPECT_EQ(prefetcher.followed(), Decision::none) << "these pages are all wanted again";
}

TEST(PrefetchAdaptive, TeachesItsMembers) {
  std::vector<std::unique_ptr<Prefetcher>> members;
  members.push_back(std::make_unique<Perceptron>(std::make_unique<Sequential>()));
  Adaptive prefetcher(std::move(members));
  after(prefetcher, random_pages(5000), 0x400);
  EXPECT_GT(prefetcher.member(0).stats().filtered, 3000U);
}

TEST(PrefetchAdaptive, KeepsTheLastDecisionsOnly) {
  std::vector<std::unique_ptr<Prefetcher>> members;
  members.push_back(std::make_unique<Sequential>());
  AdaptiveConfig config;
  config.window = 16;
  Adaptive prefetcher(std::move(members), config);
  for (std::uint64_t phase = 0; phase < 300; ++phase) {
    after(prefetcher, run(phase << 30, 1, 100));
    after(prefetcher, run(phase << 30 | 1 << 20, 100, 100));
  }
  EXPECT_EQ(prefetcher.decision_count(), 600U);
  EXPECT_EQ(prefetcher.decisions().size(), 256U);
  EXPECT_GT(prefetcher.decisions().front().event, 10000U);
}

TEST(PrefetchAdaptive, ChecksItsConfiguration) {
  const auto refuses = [](auto change) {
    AdaptiveConfig config;
    change(config);
    EXPECT_THROW(Adaptive(default_members(), config), vm::InvalidConfig);
  };
  refuses([](AdaptiveConfig& c) { c.window = 8; });
  refuses([](AdaptiveConfig& c) { c.window = 1 << 17; });
  refuses([](AdaptiveConfig& c) { c.accuracy = -0.1; });
  refuses([](AdaptiveConfig& c) { c.coverage = 1.1; });
  refuses([](AdaptiveConfig& c) { c.hysteresis = std::numeric_limits<double>::quiet_NaN(); });
  refuses([](AdaptiveConfig& c) { c.walk_price = 2; });
  refuses([](AdaptiveConfig& c) { c.fill_price = -1; });
  refuses([](AdaptiveConfig& c) { c.filter = 0; });
  refuses([](AdaptiveConfig& c) { c.resident = 0; });
  EXPECT_THROW(Adaptive({}), vm::InvalidConfig);
  std::vector<std::unique_ptr<Prefetcher>> one_is_missing(1);
  EXPECT_THROW(Adaptive(std::move(one_is_missing)), vm::InvalidConfig);
  std::vector<std::unique_ptr<Prefetcher>> many;
  for (int i = 0; i < 17; ++i) many.push_back(std::make_unique<Sequential>());
  EXPECT_THROW(Adaptive(std::move(many)), vm::InvalidConfig);
  EXPECT_THROW(default_members(0), vm::InvalidConfig);
}

/// Everything that may come: patterns, noise, the ends of the address space, numbers that are no pages.
Pages everything() {
  Pages pages = run(0, 1, 300);
  for (const Pages& more : {run(max_page - 50, 1, 60), random_pages(500), run(UINT64_MAX - 3, 1, 6),
                            steps(1 << 20, {5, 77, -3}, 300), chain(3)}) {
    pages.insert(pages.end(), more.begin(), more.end());
  }
  return pages;
}

TEST(Prefetchers, AreBoundedRepeatableAndForgetful) {
  std::vector<std::unique_ptr<Prefetcher>> all = default_members();
  all.push_back(std::make_unique<Perceptron>(std::make_unique<Distance>()));
  all.push_back(std::make_unique<Adaptive>(default_members()));
  const Pages pages = everything();
  for (const auto& prefetcher : all) {
    const std::unique_ptr<Prefetcher> other = prefetcher->fresh();
    EXPECT_EQ(other->describe(), prefetcher->describe());
    std::vector<Pages> first;
    std::uint64_t proposed = 0;
    for (std::size_t i = 0; i < pages.size(); ++i) {
      first.push_back(observe(*prefetcher, pages[i], i % 3));
      proposed += first.back().size();
      EXPECT_LE(first.back().size(), Candidates::capacity);
      for (const std::uint64_t page : first.back()) {
        EXPECT_NE(page, pages[i]);
        EXPECT_LE(page, max_page);
      }
      ASSERT_EQ(observe(*other, pages[i], i % 3), first.back()) << prefetcher->name() << " at " << i;
    }
    EXPECT_EQ(prefetcher->stats().events, pages.size());
    EXPECT_EQ(prefetcher->stats().proposed, proposed);
    prefetcher->reset();
    EXPECT_EQ(prefetcher->stats().events, 0U);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      ASSERT_EQ(observe(*prefetcher, pages[i], i % 3), first[i]) << prefetcher->name() << " after reset, at " << i;
    }
  }
}

}  // namespace
