// What a random stream of three contexts does not reach: tickets, many contexts, sizes without a place, batches.

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "vm/mem/tlb/multi_level_tlb.hpp"

namespace {

using namespace vm::mem::tlb;

Entry page_at(std::uint64_t vaddr, std::uint64_t paddr, Context context = {}, std::uint8_t size_log2 = 12) {
  Entry e;
  e.vaddr = vaddr;
  e.paddr = paddr;
  e.rights = e.usable = 0b111;
  e.size_log2 = size_log2;
  e.context = context;
  return e;
}

bool insert(MultiLevelTlb& tlb, const Entry& e) { return tlb.insert(e, tlb.begin_fill()); }

bool has(MultiLevelTlb& tlb, std::uint64_t vaddr, Context context = {}) {
  Hit hit;
  return tlb.find(vaddr, context, hit);
}

TEST(MultiLevelTickets, AFlushRejectsExactlyWhatItCovers) {
  MultiLevelTlb tlb{TlbConfig{}};
  const Context own{1, 0}, other{2, 0};
  const FillTicket ticket = tlb.begin_fill();
  tlb.flush(FlushRequest::range(0x2000, 0x2000, own));
  EXPECT_TRUE(tlb.insert(page_at(0x1000, 0x1000, own), ticket));
  EXPECT_FALSE(tlb.insert(page_at(0x2000, 0x2000, own), ticket));
  EXPECT_FALSE(tlb.insert(page_at(0x3000, 0x2000, own), ticket));
  EXPECT_TRUE(tlb.insert(page_at(0x4000, 0x2000, own), ticket));
  EXPECT_TRUE(tlb.insert(page_at(0x2000, 0x2000, other), ticket));
  EXPECT_TRUE(insert(tlb, page_at(0x2000, 0x2000, own)));
  tlb.flush(FlushRequest::asid(other));
  EXPECT_FALSE(tlb.insert(page_at(0x9000, 0x2000, other), ticket));
  EXPECT_EQ(tlb.stats().rejected_fills, 3U);
  EXPECT_EQ(tlb.stats().flushes, 2U);
}

TEST(MultiLevelTickets, SixtyFourFlushesAreRememberedAndNoMore) {
  MultiLevelTlb tlb{TlbConfig{}};
  const FillTicket ticket = tlb.begin_fill();
  for (int i = 0; i < 64; ++i) tlb.flush(FlushRequest::page(0x100000));
  EXPECT_TRUE(tlb.insert(page_at(0x1000, 0), ticket));
  EXPECT_FALSE(tlb.insert(page_at(0x100000, 0), ticket));
  tlb.flush(FlushRequest::page(0x100000));
  EXPECT_FALSE(tlb.insert(page_at(0x1000, 0), ticket));
  EXPECT_FALSE(tlb.insert(page_at(0x1000, 0), FillTicket{1000})) << "a ticket of another TLB";
}

TEST(MultiLevelTlb, ContextsThatShareAPredictionAreToldApart) {
  TlbConfig config;
  config.l1_size = 8;
  MultiLevelTlb tlb(config);
  // Every context has the same page somewhere else.
  for (std::uint32_t round = 0; round < 2; ++round)
    for (std::uint32_t c = 0; c < 9000; ++c) {
      const Context context{static_cast<std::uint16_t>(c), static_cast<std::uint16_t>(c >> 12)};
      const std::uint64_t paddr = std::uint64_t{c} << 12;
      Hit hit;
      if (tlb.find(0x5000, context, hit)) {
        ASSERT_EQ(hit.paddr, paddr);
        continue;
      }
      ASSERT_TRUE(insert(tlb, page_at(0x5000, paddr, context)));
      ASSERT_TRUE(tlb.find(0x5000, context, hit));
      ASSERT_EQ(hit.paddr, paddr);
      const Context before{static_cast<std::uint16_t>(c - 1), static_cast<std::uint16_t>((c - 1) >> 12)};
      if (c != 0 && tlb.find(0x5000, before, hit)) {
        ASSERT_EQ(hit.paddr, paddr - 0x1000);
      }
    }
}

TEST(MultiLevelTlb, AGlobalEntryAnswersEveryAsidInTurn) {
  MultiLevelTlb tlb{TlbConfig{}};
  Entry e = page_at(0x7000, 0x9000, {1, 5});
  e.global = true;
  insert(tlb, e);
  for (std::uint16_t asid = 0; asid < 20; ++asid) {
    EXPECT_TRUE(has(tlb, 0x7000, {asid, 5}));
    EXPECT_FALSE(has(tlb, 0x7000, {asid, 4}));
  }
  tlb.flush(FlushRequest::asid({19, 5}));
  tlb.flush(FlushRequest::non_global(5));
  EXPECT_TRUE(has(tlb, 0x7000, {1, 5}));
  tlb.flush(FlushRequest::page(0x7FFF, {77, 5}));
  EXPECT_FALSE(has(tlb, 0x7000, {1, 5}));
  EXPECT_EQ(tlb.size(), 0U);
}

TEST(MultiLevelTlb, ASizeWithoutAPlaceIsNotCached) {
  TlbConfig config;
  config.levels = {{{{4, 2, Replacement::lru, {12}}}}, {{{4, 2, Replacement::lru, {12, 21}}}}};
  MultiLevelTlb tlb(config);
  EXPECT_FALSE(insert(tlb, page_at(0x4000'0000, 0, {}, 30)));
  EXPECT_FALSE(insert(tlb, page_at(0, 0, {}, 63)));
  EXPECT_FALSE(insert(tlb, page_at(0, 0, {}, 11)));
  EXPECT_EQ(tlb.stats().rejected_fills, 0U);
  EXPECT_TRUE(insert(tlb, page_at(0x20'0000, 0x40'0000, {}, 21)));
  Hit hit;
  for (int again = 0; again < 2; ++again) {
    ASSERT_TRUE(tlb.find(0x20'1234, {}, hit));
    EXPECT_EQ(hit.tlb_level, 1) << "no earlier level takes 2 MiB pages";
    EXPECT_EQ(hit.paddr, 0x40'1234U);
  }
}

TEST(MultiLevelTlb, TheEndsOfTheAddressSpace) {
  MultiLevelTlb tlb{TlbConfig{}};
  const std::uint64_t top = UINT64_MAX - 0xFFF;
  EXPECT_FALSE(has(tlb, 0));
  EXPECT_FALSE(has(tlb, UINT64_MAX, {0xFFFF, 0xFFFF}));
  insert(tlb, page_at(0, 0x000F'FFFF'FFFF'F000));
  insert(tlb, page_at(top, 0));
  Hit hit;
  ASSERT_TRUE(tlb.lookup(0xFFF, {}, hit));
  EXPECT_EQ(hit.paddr, 0x000F'FFFF'FFFF'FFFFU);
  ASSERT_TRUE(tlb.lookup(UINT64_MAX, {}, hit));
  EXPECT_EQ(hit.paddr, 0xFFFU);
  tlb.flush(FlushRequest::range(top, UINT64_MAX));
  EXPECT_FALSE(has(tlb, UINT64_MAX));
  EXPECT_TRUE(has(tlb, 0));
}

TEST(MultiLevelTlb, InsertOverwritesThePage) {
  MultiLevelTlb tlb{TlbConfig{}};
  insert(tlb, page_at(0x1000, 0xA000));
  insert(tlb, page_at(0x1000, 0xB000));
  Hit hit;
  ASSERT_TRUE(tlb.find(0x1000, {}, hit));
  EXPECT_EQ(hit.paddr, 0xB000U);
  EXPECT_EQ(tlb.size(), 3U) << "one in each of three levels";
  EXPECT_EQ(tlb.stats().levels[0].evictions, 1U);
}

TEST(MultiLevelTlb, ABatchIsTheSameAsItsElements) {
  TlbConfig config;
  config.l1_size = 16, config.l2_size = 32, config.l2_ways = 4, config.l3_size = 64;
  MultiLevelTlb one(config), all(config);
  const Context context{3, 0};
  std::mt19937_64 random(5);
  for (int i = 0; i < 100; ++i) {
    Entry e = page_at((random() % 80) << 12, (random() % 80) << 12, context);
    e.prefetched = i % 3 == 0;
    insert(one, e);
    insert(all, e);
  }
  std::vector<std::uint64_t> vaddr(5000), paddr(5000), without(5000);
  std::vector<PackedHit> facts(5000);
  for (std::uint64_t& v : vaddr) v = random() % (80 << 12);
  const std::size_t hits = all.lookup(vaddr.data(), vaddr.size(), context, paddr.data(), facts.data());
  std::size_t expected = 0;
  for (std::size_t i = 0; i < vaddr.size(); ++i) {
    Hit hit;
    const bool found = one.find(vaddr[i], context, hit);
    expected += found;
    ASSERT_EQ(paddr[i], found ? hit.paddr : MultiLevelTlb::no_address);
    ASSERT_EQ(facts[i] != 0, found);
  }
  EXPECT_EQ(hits, expected);
  EXPECT_EQ(all.lookup(vaddr.data(), vaddr.size(), context, without.data()), hits);
  EXPECT_EQ(without, paddr);
  EXPECT_EQ(all.lookup(vaddr.data(), 0, context, without.data()), 0U);
  const TlbStats a = one.stats(), b = all.stats();
  EXPECT_EQ(b.levels[0].lookups(), 10000U);
  EXPECT_EQ(a.levels[0].lookups(), 5000U);
  EXPECT_EQ(a.prefetch.useful, b.prefetch.useful);
}

TEST(MultiLevelTlb, NothingIsForgottenThatFits) {
  for (const Inclusion inclusion : {Inclusion::inclusive, Inclusion::exclusive}) {
    TlbConfig config;
    config.inclusion = inclusion;
    MultiLevelTlb tlb(config);
    for (std::uint64_t p = 0; p < 4096; ++p) insert(tlb, page_at(p << 12, p << 13));
    for (std::uint64_t p = 0; p < 4096; ++p) EXPECT_TRUE(has(tlb, p << 12)) << p;
  }
}

}  // namespace
