// Look-ups of arrays against look-ups one by one, on twins that are filled and flushed alike.

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "vm/core/cpu_features.hpp"
#include "vm/mem/tlb/hybrid_tlb.hpp"
#include "vm/mem/tlb/sharded_tlb.hpp"

namespace vm::mem::tlb {
namespace {

bool same(const Hit& a, const Hit& b) {
  return a.paddr == b.paddr && a.rights == b.rights && a.usable == b.usable && a.size_log2 == b.size_log2 &&
         a.level == b.level && a.global == b.global && a.prefetched == b.prefetched && a.tlb_level == b.tlb_level;
}

bool same(const LevelStats& a, const LevelStats& b) { return a.hits == b.hits && a.misses == b.misses; }

struct Mixture {
  std::vector<std::uint8_t> sizes;
  std::uint16_t asids;
};

template <class T>
void expect_twins(T& by_one, T& by_array, const Mixture& mixture, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto address = [&] { return (random() % 2 << 40) + (random() % 3 << 21) + random() % (24 << 12); };
  const auto context = [&] { return Context{static_cast<std::uint16_t>(random() % mixture.asids), 1}; };
  for (int round = 0; round < 400; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    for (int fill = 0; fill < 8; ++fill) {
      Entry e;
      e.size_log2 = mixture.sizes[random() % mixture.sizes.size()];
      e.vaddr = address() >> e.size_log2 << e.size_log2;
      e.paddr = random() << e.size_log2 & 0x000F'FFFF'FFFF'F000;
      e.rights = static_cast<Rights>(random() & 63);
      e.usable = static_cast<Rights>(random() & 63);
      e.level = static_cast<std::int8_t>(random() % 5);
      e.global = random() % 5 == 0;
      e.prefetched = random() % 4 == 0;
      e.context = context();
      ASSERT_TRUE(by_one.insert(e, by_one.begin_fill()));
      ASSERT_TRUE(by_array.insert(e, by_array.begin_fill()));
    }
    if (random() % 16 == 0) {
      const FlushRequest request = random() % 4 == 0 ? FlushRequest::all() : FlushRequest::page(address(), context());
      by_one.flush(request);
      by_array.flush(request);
    }
    const std::size_t count = random() % 70;
    const Context own = context();
    std::vector<std::uint64_t> vaddr(count);
    for (std::uint64_t& v : vaddr) v = address();
    std::vector<Hit> hit(count);
    const std::unique_ptr<bool[]> found(new bool[count + 1]);
    found[count] = true;
    const std::size_t hits = by_array.lookup(vaddr.data(), count, own, hit.data(), found.get());
    std::size_t expected = 0;
    for (std::size_t i = 0; i < count; ++i) {
      Hit alone;
      ASSERT_EQ(found[i], by_one.lookup(vaddr[i], own, alone)) << i;
      if (!found[i]) continue;
      ++expected;
      ASSERT_TRUE(same(hit[i], alone)) << i;
    }
    ASSERT_EQ(hits, expected);
    ASSERT_TRUE(found[count]) << "written past the end";
  }
  const TlbStats one = by_one.stats(), array = by_array.stats();
  for (std::size_t level = 0; level < one.levels.size(); ++level)
    EXPECT_TRUE(same(one.levels[level], array.levels[level])) << level;
  EXPECT_EQ(one.prefetch.useful, array.prefetch.useful);
  EXPECT_GT(one.levels.back().hits, 0U);
}

const std::vector<Mixture> mixtures{{{12}, 1}, {{12}, 3}, {{21}, 2}, {{12, 21}, 2}, {{12, 16, 21, 30}, 3}};

void expect_twins_of_all_shapes(detail::ProbeKernel kernel) {
  for (const Mixture& mixture : mixtures) {
    for (const auto& [entries, ways] : {std::pair{256U, 4U}, {64U, 2U}, {52U, 4U}, {64U, 8U}, {84U, 12U}}) {
      SCOPED_TRACE(std::to_string(entries) + " entries of " + std::to_string(ways) + " ways, " +
                   std::to_string(mixture.sizes.size()) + " sizes");
      ShardedTlb by_one(entries, ways), by_array(entries, ways, kernel);
      expect_twins(by_one, by_array, mixture, entries + ways);
    }
  }
}

TEST(ArrayLookup, BaselineKernel) { expect_twins_of_all_shapes(detail::baseline_probe_kernel); }

TEST(ArrayLookup, Avx2Kernel) {
  const detail::ProbeKernel kernel = detail::avx2_probe_kernel();
  if (kernel == nullptr) GTEST_SKIP() << "this build has no AVX2 kernel";
  if (!CpuFeatures::detect().has(CpuFeature::avx2)) GTEST_SKIP() << "this processor has no AVX2";
  expect_twins_of_all_shapes(kernel);
}

TEST(ArrayLookup, Hybrid) {
  for (const Mixture& mixture : mixtures) {
    for (const auto& [entries, ways] : {std::pair{16U, 4U}, {12U, 3U}, {8U, 1U}, {24U, 8U}}) {
      HybridTlb by_one(entries, ways, 256, 4), by_array(entries, ways, 256, 4);
      expect_twins(by_one, by_array, mixture, entries);
    }
  }
}

TEST(ArrayLookup, HandlesAnswerToo) {
  ShardedTlb sharded(64, 4);
  HybridTlb hybrid(16, 4, 64, 4);
  Entry e;
  e.vaddr = 0x5000;
  e.paddr = 0x9000;
  ASSERT_TRUE(sharded.insert(e, sharded.begin_fill()));
  ASSERT_TRUE(hybrid.insert(e, hybrid.begin_fill()));
  const std::uint64_t vaddr[] = {0x5123, 0x6000, 0x5FFF};
  Hit hit[3];
  bool found[3];
  ShardedTlb::Reader reader = sharded.reader();
  HybridTlb::Local local = hybrid.local();
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(round == 0 ? reader.lookup(vaddr, 3, {}, hit, found) : local.lookup(vaddr, 3, {}, hit, found), 2U);
    EXPECT_TRUE(found[0] && !found[1] && found[2]);
    EXPECT_EQ(hit[0].paddr, 0x9123U);
    EXPECT_EQ(hit[2].paddr, 0x9FFFU);
  }
  EXPECT_EQ(hit[2].tlb_level, 0) << "the first one of the array brought it into the private level";
  EXPECT_EQ(sharded.stats().levels[0].lookups(), 3U);
  EXPECT_EQ(hybrid.stats().levels[0].lookups(), 3U);
}

}  // namespace
}  // namespace vm::mem::tlb
