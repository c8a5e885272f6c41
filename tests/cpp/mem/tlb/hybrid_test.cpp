// When the private level of a HybridTlb answers, and when it stands aside.

#include <gtest/gtest.h>

#include "vm/mem/tlb/hybrid_tlb.hpp"

namespace vm::mem::tlb {
namespace {

TEST(HybridTlb, TheSecondLookupIsPrivate) {
  HybridTlb tlb(TlbConfig{});
  Entry e;
  e.vaddr = 0x5000;
  ASSERT_TRUE(tlb.insert(e, tlb.begin_fill()));
  Hit hit;
  ASSERT_TRUE(tlb.lookup(0x5000, {}, hit));
  EXPECT_EQ(hit.tlb_level, 1);
  ASSERT_TRUE(tlb.lookup(0x5000, {}, hit));
  EXPECT_EQ(hit.tlb_level, 0);
  EXPECT_EQ(tlb.size(), 2U) << "both levels have it";

  e.usable = 7;  // the same page after the guest has written to it: no flush is needed for more rights
  ASSERT_TRUE(tlb.insert(e, tlb.begin_fill()));
  ASSERT_TRUE(tlb.lookup(0x5000, {}, hit));
  EXPECT_EQ(hit.usable, 7U);

  tlb.flush(FlushRequest::page(0x5000));
  EXPECT_EQ(tlb.size(), 0U) << "although the private level has not read about it";
  EXPECT_FALSE(tlb.lookup(0x5000, {}, hit));
  const TlbStats stats = tlb.stats();
  EXPECT_EQ(stats.levels[0].hits, 1U);
  EXPECT_EQ(stats.levels[0].misses, 3U);
  EXPECT_EQ(stats.levels[1].lookups(), 3U);
  EXPECT_EQ(stats.levels[1].flushed, 1U);
}

TEST(HybridTlb, StandsAsideWhileFlushesAreManyAndComesBack) {
  HybridTlb tlb(TlbConfig{});
  Entry e;
  e.vaddr = 0x5000;
  Hit hit;
  for (int round = 0; round < 100; ++round) {
    ASSERT_TRUE(tlb.insert(e, tlb.begin_fill()));
    ASSERT_TRUE(tlb.lookup(0x5000, {}, hit));
    tlb.flush(FlushRequest::page(0x5000));
    ASSERT_FALSE(tlb.lookup(0x5000, {}, hit));
  }
  ASSERT_TRUE(tlb.insert(e, tlb.begin_fill()));
  ASSERT_TRUE(tlb.lookup(0x5000, {}, hit));
  EXPECT_EQ(hit.tlb_level, 1);
  for (std::uint32_t i = 0; i <= detail::HybridSide::bypass_length; ++i) ASSERT_TRUE(tlb.lookup(0x5000, {}, hit));
  EXPECT_EQ(hit.tlb_level, 0);
}

TEST(HybridTlb, StandsAsideWhereItMissesTooOftenAndComesBack) {
  using Side = detail::HybridSide;
  for (const bool by_arrays : {false, true}) {
    HybridTlb tlb(64, 4, 4096, 4);
    const auto lookup = [&](std::uint64_t vaddr, Hit& hit) {
      bool found = false;
      return by_arrays ? tlb.lookup(&vaddr, 1, {}, &hit, &found) == 1 : tlb.lookup(vaddr, {}, hit);
    };
    Entry e;
    for (e.vaddr = 0x1000; e.vaddr <= std::uint64_t{Side::trial_misses} << 12; e.vaddr += 0x1000)
      ASSERT_TRUE(tlb.insert(e, tlb.begin_fill()));
    Hit hit;
    for (std::uint64_t page = 1; page <= Side::trial_misses; ++page) ASSERT_TRUE(lookup(page << 12, hit));
    for (std::uint32_t i = 0; i < Side::retry_length; ++i) {
      ASSERT_TRUE(lookup(0x1000, hit));
      ASSERT_EQ(hit.tlb_level, 1) << i;
    }
    ASSERT_TRUE(lookup(0x1000, hit));
    ASSERT_TRUE(lookup(0x1000, hit));
    EXPECT_EQ(hit.tlb_level, 0);
    const TlbStats stats = tlb.stats();
    EXPECT_EQ(stats.levels[0].lookups(), Side::trial_misses + Side::retry_length + 2);
    EXPECT_EQ(stats.levels[0].flushed, 0U) << "standing aside loses nothing";
  }
}

}  // namespace
}  // namespace vm::mem::tlb
