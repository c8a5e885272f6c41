// MultiLevelTlb against the reference: every replacement policy, both inclusions, several geometries, random streams of
// look-ups, fills and flushes with three page sizes, contexts, global and prefetched entries.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <tuple>
#include <vector>

#include "reference.hpp"
#include "vm/mem/tlb/multi_level_tlb.hpp"

namespace {

using namespace vm::mem::tlb;

// Small enough that everything is evicted all the time. Sizes other than 4 KiB have address ranges of their own.
enum class Geometry { powers, odd, split, fully };
TlbConfig config_of(Geometry geometry, Replacement replacement, Inclusion inclusion) {
  TlbConfig c;
  c.replacement = replacement;
  c.inclusion = inclusion;
  const auto r = replacement;
  switch (geometry) {
    case Geometry::powers: c.l1_size = 8, c.l1_ways = 2, c.l2_size = 16, c.l2_ways = 4, c.l3_size = 64; break;
    case Geometry::odd: c.levels = {{{{3, 3, r, {}}}}, {{{7, 5, r, {}}}}}; break;
    case Geometry::split:  // the second level has no room for 2 MiB pages
      c.levels = {{{{4, 2, r, {12}}, {1, 3, r, {}}}}, {{{5, 3, r, {12, 14}}}}, {{{9, 6, r, {}}}}};
      break;
    case Geometry::fully: c.levels = {{{{1, 6, r, {}}}}, {{{1, 20, r, {}}}}}; break;
  }
  return c;
}

Entry random_entry(std::mt19937_64& random) {
  static constexpr std::uint8_t sizes[] = {12, 12, 12, 14, 21};
  Entry e;
  e.size_log2 = sizes[random() % 5];
  const std::uint64_t region = e.size_log2 == 12 ? 0 : e.size_log2 == 14 ? 0x4000'0000 : 0xFFFF'8000'0000'0000;
  e.vaddr = region + (random() % 40 << e.size_log2);
  e.paddr = random() % 1000 << 30;
  e.rights = static_cast<vm::Rights>(random() % 64);
  e.usable = static_cast<vm::Rights>(random() % 64);
  e.level = static_cast<std::int8_t>(random() % 4);
  e.global = random() % 6 == 0;
  e.prefetched = random() % 5 == 0;
  e.context = {static_cast<std::uint16_t>(random() % 3), static_cast<std::uint16_t>(random() % 2)};
  return e;
}

FlushRequest random_flush(std::mt19937_64& random) {
  const Entry e = random_entry(random);
  switch (random() % 12) {
    case 0: return FlushRequest::all();
    case 1: return FlushRequest::non_global(e.context.vmid);
    case 2: return FlushRequest::asid(e.context);
    case 3: return FlushRequest::range(e.vaddr, random() % 2 ? UINT64_MAX : 0, e.context);
    case 4:
    case 5:
    case 6: return FlushRequest::range(e.vaddr + random() % 4096, random() % 0x10'0000, e.context);
    default: return FlushRequest::page(e.vaddr + random() % e.page_size(), e.context);
  }
}

// For comparing contents: a global entry's ASID means nothing.
auto key(const Entry& e) {
  return std::make_tuple(e.vaddr, e.size_log2, e.context.vmid, e.global ? 0 : e.context.asid, e.global, e.paddr,
                         e.rights, e.usable, e.level, e.prefetched);
}
std::vector<decltype(key(Entry{}))> keys(const std::vector<Entry>& entries) {
  std::vector<decltype(key(Entry{}))> result;
  for (const Entry& e : entries) result.push_back(key(e));
  std::sort(result.begin(), result.end());
  return result;
}

void expect_equal(const LevelStats& a, const LevelStats& b) {
  EXPECT_EQ(a.hits, b.hits);
  EXPECT_EQ(a.misses, b.misses);
  EXPECT_EQ(a.fills, b.fills);
  EXPECT_EQ(a.evictions, b.evictions);
  EXPECT_EQ(a.flushed, b.flushed);
  EXPECT_EQ(a.promoted, b.promoted);
}

void expect_sums(const MultiLevelTlb& tlb, const TlbStats& stats) {
  std::size_t size = 0;
  for (std::size_t l = 0; l < tlb.level_count(); ++l) {
    const LevelStats& s = stats.levels[l];
    EXPECT_EQ(s.fills, s.evictions + s.flushed + s.promoted + tlb.entries(l).size()) << "level " << l;
    size += tlb.entries(l).size();
    if (l != 0) {
      EXPECT_EQ(s.lookups(), stats.levels[l - 1].misses);
    }
  }
  EXPECT_EQ(tlb.size(), size);
}

// Inclusive: what a level has, later levels that take the size have too. Exclusive: nothing is in two levels.
void expect_inclusion(const MultiLevelTlb& tlb, Inclusion inclusion, Geometry geometry) {
  for (std::size_t a = 0; a < tlb.level_count(); ++a)
    for (std::size_t b = a + 1; b < tlb.level_count(); ++b) {
      const std::vector<Entry> later = tlb.entries(b);
      for (const Entry& e : tlb.entries(a)) {
        const bool takes = geometry != Geometry::split || b != 1 || e.size_log2 != 21;
        const bool found =
            std::any_of(later.begin(), later.end(), [&](const Entry& o) { return reference::same(o, e); });
        EXPECT_EQ(found, inclusion == Inclusion::inclusive && takes) << "levels " << a << " and " << b;
      }
    }
}

using Case = std::tuple<Geometry, Replacement, Inclusion>;
class MultiLevel : public testing::TestWithParam<Case> {};

TEST_P(MultiLevel, AgreesWithTheReference) {
  const auto [geometry, replacement, inclusion] = GetParam();
  const TlbConfig config = config_of(geometry, replacement, inclusion);
  MultiLevelTlb tlb(config);
  reference::Hierarchy model(levels_of(config), inclusion);
  std::mt19937_64 random(1);
  std::uint64_t flushes = 0;
  for (int step = 0; step < 12000; ++step) {
    const auto what = random() % 100;
    if (what < 55) {
      const Entry e = random_entry(random);
      const std::uint64_t vaddr = e.vaddr + random() % e.page_size();
      Hit hit;
      Entry expected;
      bool first_use = false;
      const int level = model.lookup(vaddr, e.context, expected, first_use);
      if (step % 2 == 0) {
        ASSERT_EQ(tlb.find(vaddr, e.context, hit), level >= 0) << "step " << step;
        if (level < 0) continue;
        ASSERT_EQ(hit.paddr, expected.paddr + (vaddr - expected.vaddr));
        ASSERT_EQ(hit.tlb_level, level) << "step " << step;
        ASSERT_EQ(hit.rights, expected.rights);
        ASSERT_EQ(hit.usable, expected.usable);
        ASSERT_EQ(hit.size_log2, expected.size_log2);
        ASSERT_EQ(hit.level, expected.level);
        ASSERT_EQ(hit.global, expected.global);
        ASSERT_EQ(hit.prefetched, first_use);
      } else {
        std::uint64_t paddr = 0;
        PackedHit facts = 0;
        ASSERT_EQ(tlb.lookup(&vaddr, 1, e.context, &paddr, &facts), level >= 0 ? 1U : 0U) << "step " << step;
        if (level < 0) {
          ASSERT_EQ(paddr, MultiLevelTlb::no_address);
          ASSERT_EQ(facts, 0U);
          continue;
        }
        ASSERT_EQ(paddr, expected.paddr + (vaddr - expected.vaddr));
        ASSERT_EQ(rights_of(facts), expected.rights);
        ASSERT_EQ(usable_of(facts), expected.usable);
        ASSERT_EQ(size_log2_of(facts), expected.size_log2);
        ASSERT_EQ(level_of(facts), expected.level);
        ASSERT_EQ(is_global(facts), expected.global);
        ASSERT_EQ(facts & packed_hit_prefetched, 0U);
      }
    } else if (what < 94) {
      const Entry e = random_entry(random);
      ASSERT_TRUE(tlb.insert(e, tlb.begin_fill()));
      model.insert(e);
    } else {
      const FlushRequest request = random_flush(random);
      tlb.flush(request);
      model.flush(request);
      ++flushes;
    }
    if (step % 16 != 0) continue;
    const TlbStats stats = tlb.stats();
    for (std::size_t l = 0; l < tlb.level_count(); ++l) {
      ASSERT_EQ(keys(tlb.entries(l)), keys(model.entries(l))) << "step " << step << ", level " << l;
      expect_equal(stats.levels[l], model.stats[l]);
    }
    EXPECT_EQ(stats.prefetch.fills, model.prefetch.fills);
    EXPECT_EQ(stats.prefetch.useful, model.prefetch.useful);
    EXPECT_EQ(stats.prefetch.useless, model.useless());
    EXPECT_EQ(stats.flushes, flushes);
    expect_sums(tlb, stats);
    expect_inclusion(tlb, inclusion, geometry);
    ASSERT_FALSE(HasFailure()) << "step " << step;
  }
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
  static const char* const geometries[] = {"powers", "odd", "split", "fully"};
  return std::string(geometries[static_cast<int>(std::get<0>(info.param))]) + "_" + to_string(std::get<1>(info.param)) +
         "_" + to_string(std::get<2>(info.param));
}

INSTANTIATE_TEST_SUITE_P(All, MultiLevel,
                         testing::Combine(testing::Values(Geometry::powers, Geometry::odd, Geometry::split,
                                                          Geometry::fully),
                                          testing::Values(Replacement::lru, Replacement::tree_plru, Replacement::fifo),
                                          testing::Values(Inclusion::inclusive, Inclusion::exclusive)),
                         name_of);

// Which way is random is not for a model to say; everything else is.
class RandomReplacement : public testing::TestWithParam<Inclusion> {};

TEST_P(RandomReplacement, KeepsEveryPromiseAndRepeatsWithTheSeed) {
  TlbConfig config = config_of(Geometry::odd, Replacement::random, GetParam());
  MultiLevelTlb tlb(config), again(config);
  config.seed = 2;
  MultiLevelTlb other(config);
  std::mt19937_64 random(3);
  for (int step = 0; step < 4000; ++step) {
    const Entry e = random_entry(random);
    Hit hit;
    for (MultiLevelTlb* t : {&tlb, &again, &other}) {
      if (step % 3 == 0) {
        t->find(e.vaddr, e.context, hit);
      } else if (step % 101 == 0) {
        t->flush(FlushRequest::page(e.vaddr, e.context));
      } else {
        t->insert(e, t->begin_fill());
      }
    }
    if (step % 64 == 0) {
      expect_sums(tlb, tlb.stats());
      expect_inclusion(tlb, GetParam(), Geometry::odd);
    }
  }
  EXPECT_EQ(keys(tlb.entries(0)), keys(again.entries(0)));
  EXPECT_EQ(keys(tlb.entries(1)), keys(again.entries(1)));
  EXPECT_NE(keys(tlb.entries(1)), keys(other.entries(1)));
}

INSTANTIATE_TEST_SUITE_P(Both, RandomReplacement, testing::Values(Inclusion::inclusive, Inclusion::exclusive));

}  // namespace
