// The packed form of entries, and which of them a flush covers.

#include <gtest/gtest.h>

#include <random>

#include "vm/mem/tlb/flush.hpp"
#include "vm/mem/tlb/probe.hpp"

namespace {

using vm::Access;
using vm::Privilege;
using vm::mem::tlb::answers;
using vm::mem::tlb::Context;
using vm::mem::tlb::covers;
using vm::mem::tlb::Entry;
using vm::mem::tlb::FlushRequest;
using vm::mem::tlb::Hit;
using vm::mem::tlb::PackedEntry;

Entry sample(unsigned size_log2 = 21) {
  Entry e;
  e.vaddr = 0xFFFF'8000'0020'0000;
  e.paddr = 0x00FF'FFFF'FFE0'0000;
  e.rights = 0b011'111;
  e.usable = 0b001'101;
  e.size_log2 = static_cast<std::uint8_t>(size_log2);
  e.level = 3;
  e.global = true;
  e.context = {0xFFFF, 0x8001};
  return e;
}

TEST(TlbEntry, PacksAndUnpacks) {
  const Entry e = sample();
  const Entry back = unpack(pack(e));
  EXPECT_EQ(back.vaddr, e.vaddr);
  EXPECT_EQ(back.paddr, e.paddr);
  EXPECT_EQ(back.rights, e.rights);
  EXPECT_EQ(back.usable, e.usable);
  EXPECT_EQ(back.size_log2, e.size_log2);
  EXPECT_EQ(back.level, e.level);
  EXPECT_EQ(back.global, e.global);
  EXPECT_EQ(back.prefetched, e.prefetched);
  EXPECT_EQ(back.context, e.context);
}

TEST(TlbEntry, AHitKeepsTheOffset) {
  const Hit hit = hit_of(pack(sample()), 0xFFFF'8000'0023'4567);
  EXPECT_EQ(hit.paddr, 0x00FF'FFFF'FFE3'4567U);
  EXPECT_EQ(hit.size_log2, 21);
  EXPECT_TRUE(hit.allows(Access::read | Access::execute, Privilege::supervisor));
  EXPECT_FALSE(hit.allows(Access::write, Privilege::supervisor));
  EXPECT_TRUE(hit.allows(Access::read, Privilege::user));
  EXPECT_FALSE(hit.allows(Access::execute, Privilege::user));
}

TEST(TlbEntry, GlobalEntriesAnswerForEveryAsidOfTheirVm) {
  PackedEntry p = pack(sample());
  EXPECT_TRUE(answers(p.meta, {1, 0x8001}));
  EXPECT_FALSE(answers(p.meta, {0xFFFF, 0x8000}));
  Entry local = sample();
  local.global = false;
  p = pack(local);
  EXPECT_TRUE(answers(p.meta, local.context));
  EXPECT_FALSE(answers(p.meta, {1, 0x8001}));
}

bool covers_sample(const FlushRequest& request, bool global) {
  Entry e = sample();
  e.global = global;
  const PackedEntry p = pack(e);
  return covers(request, p.tag, p.meta);
}

TEST(TlbEntry, AllWaysToMakeAHitMakeTheSame) {
  namespace detail = vm::mem::tlb::detail;
  std::mt19937_64 random(11);
  for (int i = 0; i < 2000; ++i) {
    Entry e = sample(12 + static_cast<unsigned>(random() % 46));
    e.paddr = random() << e.size_log2;
    e.rights = random() & 63;
    e.usable = random() & 63;
    e.level = static_cast<std::int8_t>(random() % 5);
    e.global = random() % 2 == 0;
    e.prefetched = random() % 2 == 0;
    PackedEntry packed = pack(e);
    packed.meta |= random() << 37;  // what a TLB may keep there is not the entry's
    const std::uint64_t vaddr = e.vaddr | (random() & (e.page_size() - 1));
    const Hit expected = hit_of(packed, vaddr);
    Hit set, stored;
    detail::set_hit(set, packed, vaddr);
    detail::store_hit(stored, packed.frame, packed.meta, e.size_log2, vaddr);
    for (const Hit& hit : {set, stored}) {
      EXPECT_EQ(hit.paddr, expected.paddr);
      EXPECT_EQ(hit.rights, expected.rights);
      EXPECT_EQ(hit.usable, expected.usable);
      EXPECT_EQ(hit.size_log2, expected.size_log2);
      EXPECT_EQ(hit.level, expected.level);
      EXPECT_EQ(hit.global, expected.global);
      EXPECT_EQ(hit.prefetched, expected.prefetched);
      EXPECT_EQ(hit.tlb_level, 0);
    }
    EXPECT_EQ(detail::answers_quickly(packed.meta, e.context), !e.prefetched);
    const Context other_space{static_cast<std::uint16_t>(e.context.asid ^ 1), e.context.vmid};
    const Context other_vm{e.context.asid, static_cast<std::uint16_t>(e.context.vmid ^ 1)};
    EXPECT_EQ(detail::answers_quickly(packed.meta, other_space), e.global && !e.prefetched);
    EXPECT_FALSE(detail::answers_quickly(packed.meta, other_vm));
  }
}

TEST(TlbFlush, PagesAndRangesReachEveryPageThatTheyTouch) {
  const Context own{0xFFFF, 0x8001}, other{2, 0x8001}, other_vm{0xFFFF, 1};
  const std::uint64_t first = sample().vaddr, last = first + 0x1F'FFFF;
  EXPECT_TRUE(covers_sample(FlushRequest::page(first + 0x1234, own), false));
  EXPECT_FALSE(covers_sample(FlushRequest::page(last + 1, own), false));
  EXPECT_FALSE(covers_sample(FlushRequest::page(first - 1, own), false));
  EXPECT_FALSE(covers_sample(FlushRequest::page(first, other), false));
  EXPECT_TRUE(covers_sample(FlushRequest::page(first, other), true));
  EXPECT_FALSE(covers_sample(FlushRequest::page(first, other_vm), true));

  EXPECT_TRUE(covers_sample(FlushRequest::range(first - 1, 2, own), false));
  EXPECT_FALSE(covers_sample(FlushRequest::range(first - 1, 1, own), false));
  EXPECT_TRUE(covers_sample(FlushRequest::range(last, 1, own), false));
  EXPECT_FALSE(covers_sample(FlushRequest::range(first, 0, own), false));
  EXPECT_TRUE(covers_sample(FlushRequest::range(first - 0x1000, UINT64_MAX, own), false)) << "wraps: ends at 2^64";
}

TEST(TlbFlush, WiderScopes) {
  const Context own{0xFFFF, 0x8001}, other{2, 0x8001}, other_vm{0xFFFF, 1};
  EXPECT_TRUE(covers_sample(FlushRequest::asid(own), false));
  EXPECT_FALSE(covers_sample(FlushRequest::asid(own), true));
  EXPECT_FALSE(covers_sample(FlushRequest::asid(other), false));
  EXPECT_FALSE(covers_sample(FlushRequest::asid(other_vm), false));
  EXPECT_TRUE(covers_sample(FlushRequest::non_global(0x8001), false));
  EXPECT_FALSE(covers_sample(FlushRequest::non_global(0x8001), true));
  EXPECT_FALSE(covers_sample(FlushRequest::non_global(1), false));
  EXPECT_TRUE(covers_sample(FlushRequest::all(), true));
}

}  // namespace
