// Remainders without division, and arrays on their own: sets, flushes by page and by going through everything.

#include "vm/mem/tlb/array.hpp"

#include <gtest/gtest.h>

#include <random>

namespace {

using namespace vm::mem::tlb;

TEST(Modulo, IsTheRemainder) {
  std::mt19937_64 random(7);
  for (const std::uint32_t divisor : {1U, 2U, 3U, 5U, 7U, 12U, 64U, 96U, 1000U, 1536U, 4096U, 65535U, 65536U, 65537U,
                                      0x7FFF'FFFFU, 0x8000'0000U, 0x8000'0001U, UINT32_MAX}) {
    const Modulo modulo(divisor);
    EXPECT_EQ(modulo.divisor(), divisor);
    const std::uint64_t largest = (std::uint64_t{1} << 63) - 1;
    for (const std::uint64_t value :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{divisor} - 1, std::uint64_t{divisor},
          std::uint64_t{divisor} + 1, largest / divisor * divisor, largest / divisor * divisor - 1, largest})
      EXPECT_EQ(modulo(value), value % divisor) << value << " % " << divisor;
    for (int i = 0; i < 2000; ++i) {
      const std::uint64_t value = random() >> (1 + random() % 50);
      EXPECT_EQ(modulo(value), value % divisor) << value << " % " << divisor;
    }
  }
}

Way way_at(std::uint64_t vaddr, unsigned size_log2, Context context = {}) {
  Entry e;
  e.vaddr = vaddr;
  e.size_log2 = static_cast<std::uint8_t>(size_log2);
  e.context = context;
  return way_of(pack(e));
}

TEST(Way, KeepsTheEntry) {
  Entry e;
  e.vaddr = 0xFFFF'8000'0020'0000;
  e.paddr = 0x00FF'FFFF'FFE0'0000;
  e.rights = 0b011'111;
  e.usable = 0b001'101;
  e.size_log2 = 21;
  e.level = 3;
  e.global = e.prefetched = true;
  e.context = {0xFFFF, 0x8001};
  const PackedEntry before = pack(e), after = packed_of(way_of(before));
  EXPECT_EQ(after.tag, before.tag);
  EXPECT_EQ(after.frame, before.frame);
  EXPECT_EQ(after.meta, before.meta);
}

TEST(SetAssociativeArray, SetsAreCountedInPagesOfTheirSize) {
  SetAssociativeArray array({3, 1, Replacement::lru, {}}, 1);
  Way evicted;
  for (std::uint64_t p = 0; p < 3; ++p) {
    array.insert(way_at(p << 21, 21), p + 1, evicted);
    EXPECT_FALSE(evicted.live());
  }
  EXPECT_EQ(array.sizes_present(), std::uint64_t{1} << 21);
  array.insert(way_at(std::uint64_t{3} << 12, 12), 4, evicted);
  EXPECT_EQ(evicted.vaddr(), 0U) << "page 3 shares set 0 with the first one, whatever their sizes";
  EXPECT_EQ(array.sizes_present(), std::uint64_t{1} << 21 | 1 << 12);
  EXPECT_EQ(array.size(), 3U);
  EXPECT_EQ(array.find(0x3FFF, 0), array.contents().data());
  EXPECT_EQ(array.find(0x4000, 0), nullptr);
  array.remove(*array.find(0x3000, 0));
  EXPECT_EQ(array.sizes_present(), std::uint64_t{1} << 21);
}

TEST(SetAssociativeArray, FlushesAgreeWithCovers) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    SetAssociativeArray array({5, 4, Replacement::lru, {}}, 1);
    std::vector<Way> all;
    for (std::uint64_t i = 0; i < 20; ++i) {
      const unsigned size = i % 4 == 0 ? 21 : 12;
      const Way way =
          way_at((random() % 64 << 12) >> size << size, size, {static_cast<std::uint16_t>(random() % 2), 0});
      Way evicted;
      array.remove_conflicts(way, [](const Way&) {});
      array.insert(way, i + 1, evicted);
    }
    for (const Way& way : array.contents())
      if (way.live()) all.push_back(way);
    const FlushRequest request = FlushRequest::range(random() % 0x50'000, random() % 0x20'000, {0, 0});
    std::size_t expected = 0, removed = 0;
    for (const Way& way : all) expected += covers(request, way);
    array.flush(request, [&](const Way& way) {
      EXPECT_TRUE(covers(request, way));
      ++removed;
    });
    EXPECT_EQ(removed, expected);
    EXPECT_EQ(array.size(), all.size() - expected);
  }
}

}  // namespace
