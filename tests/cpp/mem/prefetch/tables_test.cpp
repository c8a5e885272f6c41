// The parts that prefetchers are made of: candidates, the LRU table, the queue of recent pages.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <random>
#include <utility>

#include "vm/core/error.hpp"
#include "vm/mem/prefetch/lru_table.hpp"
#include "vm/mem/prefetch/prefetcher.hpp"
#include "vm/mem/prefetch/recent_pages.hpp"

namespace {

using namespace vm::mem::prefetch;

TEST(PrefetchCandidates, TakeEachPageOnceAndNeverTheDemandedOne) {
  Candidates out;
  out.begin(7);
  EXPECT_TRUE(out.push(8));
  EXPECT_FALSE(out.push(8));
  EXPECT_FALSE(out.push(7));
  EXPECT_FALSE(out.push(max_page + 1));
  EXPECT_TRUE(out.push(max_page));
  EXPECT_EQ(out.size(), 2U);
  EXPECT_EQ(out[1], max_page);
  EXPECT_TRUE(out.contains(8));
  EXPECT_FALSE(out.contains(9));
  EXPECT_EQ(out.demanded(), 7U);
  out.begin(8);
  EXPECT_TRUE(out.empty());
}

TEST(PrefetchCandidates, HoldSixteen) {
  Candidates out;
  out.begin(0);
  for (std::int64_t i = 1; i <= 16; ++i) EXPECT_TRUE(out.push_at(i));
  EXPECT_FALSE(out.push_at(17));
  EXPECT_EQ(out.size(), Candidates::capacity);
}

TEST(PrefetchCandidates, StayWithinTheAddressSpace) {
  Candidates out;
  out.begin(0);
  EXPECT_FALSE(out.push_at(-1));
  EXPECT_FALSE(out.push_at(INT64_MIN));
  EXPECT_FALSE(out.push_at(INT64_MAX));
  EXPECT_TRUE(out.push_at(static_cast<std::int64_t>(max_page)));
  out.begin(max_page);
  EXPECT_FALSE(out.push_at(1));
  EXPECT_TRUE(out.push_at(-static_cast<std::int64_t>(max_page)));
  EXPECT_EQ(out[0], 0U);
}

TEST(PrefetchLruTable, ReplacesTheLeastRecentlyUsedRowOfASet) {
  LruTable<int> table(8, 2, 0);  // four sets: keys that are equal modulo 4 compete
  table.find_or_make(1) = 10;
  table.find_or_make(5) = 50;
  table.find_or_make(2) = 20;
  ASSERT_NE(table.find(1), nullptr);
  EXPECT_EQ(table.find_or_make(9), 0) << "in the place of 5";
  EXPECT_EQ(table.find(5), nullptr);
  EXPECT_EQ(*table.find(1), 10);
  EXPECT_EQ(*table.find(2), 20);
  table.clear();
  EXPECT_EQ(table.find(1), nullptr);
  EXPECT_EQ(table.find_or_make(1), 0);
}

TEST(PrefetchLruTable, KnowsTheKeyZero) {
  LruTable<int> table(1, 1, 0);
  EXPECT_EQ(table.find(0), nullptr);
  table.find_or_make(0) = 3;
  EXPECT_EQ(*table.find(0), 3);
}

TEST(PrefetchSuccessors, KeepTheMostRecentFirst) {
  Successors row;
  for (const std::uint64_t value : {1U, 2U, 1U}) row.record(value, 2);
  EXPECT_EQ(row.count, 2);
  EXPECT_EQ(row.values[0], 1U);
  EXPECT_EQ(row.values[1], 2U);
  row.record(3, 2);
  EXPECT_EQ(row.values[0], 3U);
  EXPECT_EQ(row.values[1], 1U);
  row.record(4, 1);
  EXPECT_EQ(row.values[0], 4U);
}

// The same queue, the slow way.
struct Model {
  std::size_t capacity;
  std::deque<std::optional<std::pair<std::uint64_t, int>>> ring;  // nothing where one was erased

  int* find(std::uint64_t page) {
    for (auto& member : ring)
      if (member && member->first == page) return &member->second;
    return nullptr;
  }
  std::optional<std::uint64_t> insert(std::uint64_t page, int note) {
    ring.emplace_back(std::pair{page, note});
    if (ring.size() <= capacity) return std::nullopt;
    const auto oldest = ring.front();
    ring.pop_front();
    return oldest ? std::optional(oldest->first) : std::nullopt;
  }
  bool erase(std::uint64_t page) {
    for (auto& member : ring) {
      if (!member || member->first != page) continue;
      member.reset();
      return true;
    }
    return false;
  }
};

class PrefetchRecentPages : public testing::TestWithParam<std::size_t> {};

TEST_P(PrefetchRecentPages, DoAsTheModelDoes) {
  RecentPages<int> pages(GetParam());
  Model model{GetParam(), {}};
  std::mt19937_64 random(GetParam());
  for (int step = 0; step < 20000; ++step) {
    // Few pages, far apart and close together: hashes collide.
    const std::uint64_t page = (random() % 3 == 0 ? random() % 7 << 40 : random() % (2 * GetParam() + 2));
    int* found = pages.find(page);
    int* expected = model.find(page);
    ASSERT_EQ(found == nullptr, expected == nullptr) << "step " << step;
    if (found != nullptr) {
      ASSERT_EQ(*found, *expected);
      if (random() % 2 == 0) {
        ASSERT_TRUE(pages.erase(page));
        ASSERT_TRUE(model.erase(page));
        ASSERT_FALSE(pages.erase(page));
      }
    } else {
      std::optional<std::uint64_t> gone;
      pages.insert(page, step, [&](std::uint64_t oldest, int) { gone = oldest; });
      ASSERT_EQ(gone, model.insert(page, step)) << "step " << step;
    }
    ASSERT_EQ(pages.size(), static_cast<std::size_t>(std::count_if(model.ring.begin(), model.ring.end(),
                                                                   [](const auto& m) { return m.has_value(); })));
  }
  pages.clear();
  EXPECT_EQ(pages.size(), 0U);
  EXPECT_EQ(pages.find(0), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Capacities, PrefetchRecentPages, testing::Values(1, 2, 3, 16, 100));

TEST(PrefetchOutcome, HasNames) {
  EXPECT_STREQ(to_string(Outcome::useful), "useful");
  EXPECT_STREQ(to_string(Outcome::useless), "useless");
  EXPECT_STREQ(to_string(Outcome::late), "late");
  EXPECT_STREQ(to_string(Outcome::refused), "refused");
}

TEST(PrefetchRequireBetween, NamesTheParameterAndTheLimits) {
  EXPECT_NO_THROW(require_between("X: y", 1, 1, 1));
  try {
    require_between("X: y", 5, 1, 4);
    FAIL();
  } catch (const vm::InvalidConfig& error) {
    EXPECT_STREQ(error.what(), "X: y must be from 1 to 4, got 5");
  }
}

}  // namespace
