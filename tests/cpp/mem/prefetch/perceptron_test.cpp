// The perceptron over a good source, a bad one, and both at once.

#include "vm/mem/prefetch/perceptron.hpp"

#include <gtest/gtest.h>

#include <deque>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/prefetch/sequential.hpp"

namespace {

using namespace vm::mem::prefetch;
using namespace vm::mem::prefetch::test;

/// Tells outcomes as a small TLB would.
class Tlb {
 public:
  explicit Tlb(Prefetcher& prefetcher) : prefetcher_(prefetcher) {}

  /// Returns how many pages were proposed.
  std::size_t access(std::uint64_t page, std::uint64_t pc) {
    Event event{page, pc, false};
    for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
      if (*it != page) continue;
      waiting_.erase(it);
      event.prefetch_hit = true;
      prefetcher_.outcome(page, Outcome::useful);
      break;
    }
    Candidates out;
    prefetcher_.observe(event, out);
    for (const std::uint64_t proposed : out) {
      waiting_.push_back(proposed);
      if (waiting_.size() <= 32) continue;
      prefetcher_.outcome(waiting_.front(), Outcome::useless);
      waiting_.pop_front();
    }
    return out.size();
  }

 private:
  Prefetcher& prefetcher_;
  std::deque<std::uint64_t> waiting_;
};

std::size_t proposed(Tlb& tlb, const Pages& pages, std::uint64_t pc) {
  std::size_t count = 0;
  for (const std::uint64_t page : pages) count += tlb.access(page, pc);
  return count;
}

Perceptron over_sequential() { return Perceptron(std::make_unique<Sequential>()); }

TEST(PrefetchPerceptron, PassesEverythingAtFirst) {
  Perceptron prefetcher = over_sequential();
  EXPECT_EQ(observe(prefetcher, 5), (Pages{6}));
  EXPECT_EQ(prefetcher.stats().filtered, 0U);
}

TEST(PrefetchPerceptron, RefusesABadSource) {
  Perceptron prefetcher = over_sequential();
  Tlb tlb(prefetcher);
  proposed(tlb, random_pages(2000), 0x400);
  EXPECT_LT(proposed(tlb, random_pages(1000, 2), 0x400), 20U);
  EXPECT_EQ(prefetcher.stats().proposed + prefetcher.stats().filtered, prefetcher.inner().stats().proposed);
  EXPECT_EQ(prefetcher.stats().useless, prefetcher.inner().stats().useless) << "the inner one is told as well";
}

TEST(PrefetchPerceptron, AcceptsAGoodSource) {
  Perceptron prefetcher = over_sequential();
  Tlb tlb(prefetcher);
  EXPECT_EQ(proposed(tlb, run(10, 1, 3000), 0x400), 3000U);
  EXPECT_GT(prefetcher.stats().useful, 2900U);
}

TEST(PrefetchPerceptron, TellsInstructionsApart) {
  Perceptron prefetcher = over_sequential();
  Tlb tlb(prefetcher);
  const Pages noise = random_pages(8000);
  std::size_t good = 0, bad = 0;
  for (std::size_t i = 0; i < noise.size(); ++i) {
    const std::size_t from_good = tlb.access(1'000'000 + i, 0x1000), from_bad = tlb.access(noise[i], 0x2000);
    if (i < noise.size() / 2) continue;
    good += from_good;
    bad += from_bad;
  }
  EXPECT_GT(good, 3800U) << "of 4000";
  EXPECT_LT(bad, 400U) << "of 4000";
}

TEST(PrefetchPerceptron, NoticesWhatItRefusedWrongly) {
  Perceptron prefetcher = over_sequential();
  Tlb tlb(prefetcher);
  proposed(tlb, random_pages(2000), 0x400);
  proposed(tlb, run(1 << 20, 1, 1000), 0x400);
  EXPECT_GT(proposed(tlb, run(1 << 21, 1, 1000), 0x400), 950U);
}

TEST(PrefetchPerceptron, TakesRefusalsOfThePageTablesAsBad) {
  Perceptron prefetcher = over_sequential();
  for (const std::uint64_t page : random_pages(2000)) {
    for (const std::uint64_t proposed : observe(prefetcher, page)) prefetcher.outcome(proposed, Outcome::refused);
  }
  EXPECT_GT(prefetcher.stats().filtered, 1800U);
  EXPECT_EQ(prefetcher.stats().refused, prefetcher.stats().proposed);
}

TEST(PrefetchPerceptron, WasRightToRefuseWhatFaults) {
  const auto passes = [](bool faults) {
    Perceptron prefetcher = over_sequential();
    Tlb tlb(prefetcher);
    proposed(tlb, random_pages(3000), 0x400);  // until it refuses everything
    std::size_t passed = 0;
    for (std::uint64_t page = 1 << 20; page < (1 << 20) + 500; ++page) {
      if (faults) prefetcher.faulted(page);
      passed += tlb.access(page, 0x400);
    }
    return passed;
  };
  EXPECT_GT(passes(false), 300U);
  EXPECT_EQ(passes(true), 0U);
}

TEST(PrefetchPerceptron, StartsAnewAfterReset) {
  Perceptron prefetcher = over_sequential(), untouched = over_sequential();
  Tlb tlb(prefetcher);
  proposed(tlb, random_pages(2000), 0x400);
  prefetcher.reset();
  for (const std::uint64_t page : random_pages(50, 3)) EXPECT_EQ(observe(prefetcher, page), observe(untouched, page));
}

TEST(PrefetchPerceptron, ChecksItsConfiguration) {
  const auto refuses = [](auto change) {
    PerceptronConfig config;
    change(config);
    EXPECT_THROW(Perceptron(std::make_unique<Sequential>(), config), vm::InvalidConfig);
  };
  refuses([](PerceptronConfig& c) { c.rows = 8; });
  refuses([](PerceptronConfig& c) { c.rows = 1000; });
  refuses([](PerceptronConfig& c) { c.rows = 1U << 17; });
  refuses([](PerceptronConfig& c) { c.weight_bits = 1; });
  refuses([](PerceptronConfig& c) { c.weight_bits = 9; });
  refuses([](PerceptronConfig& c) { c.threshold = 897; });
  refuses([](PerceptronConfig& c) { c.threshold = -897; });
  refuses([](PerceptronConfig& c) { c.margin = 897; });
  refuses([](PerceptronConfig& c) { c.passed = 0; });
  refuses([](PerceptronConfig& c) { c.refused = 0; });
  EXPECT_THROW(Perceptron(nullptr), vm::InvalidConfig);
}

}  // namespace
