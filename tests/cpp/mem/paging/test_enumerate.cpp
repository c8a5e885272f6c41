// Enumeration of leaf mappings: complete, merged, bounded.

#include <gtest/gtest.h>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

constexpr std::uint64_t K = 1024, M = 1024 * K, G = 1024 * M;

std::string text(const std::vector<Mapping>& mappings) {
  std::string all;
  for (const Mapping& m : mappings)
    all += hex(m.vaddr) + "->" + hex(m.paddr) + " size " + hex(m.size) + " page " + hex(m.page_size) + " " +
           to_string(m.access) + " " + to_string(m.user_access) + "\n";
  return all;
}

class EnumerateTest : public testing::TestWithParam<Layout> {
 protected:
  Machine m;
  Layout layout = GetParam();
  AddressSpace space{m.memory, layout.config};
  std::uint64_t page = layout.page_sizes[0];
  std::uint64_t large = layout.page_sizes[1];
  std::uint64_t base = layout.base;
};

INSTANTIATE_TEST_SUITE_P(Formats, EnumerateTest, testing::ValuesIn(layouts()),
                         [](const auto& layout) { return layout.param.name; });

TEST_P(EnumerateTest, ListsWhatWasMapped) {
  space.map({base, large, large, rwx, true, {}});
  space.map({base + 2 * large - page, 0x10000, page, rwx, false, {}});
  const std::vector<Mapping> found = space.mappings();
  ASSERT_EQ(found.size(), 2U) << text(found);
  EXPECT_EQ(found[0].vaddr, base);
  EXPECT_EQ(found[0].paddr, large);
  EXPECT_EQ(found[0].size, large);
  EXPECT_EQ(found[0].page_size, large);
  EXPECT_EQ(found[0].user_access, rwx);
  EXPECT_EQ(found[1].vaddr, base + 2 * large - page);
  EXPECT_EQ(found[1].paddr, 0x10000U);
  EXPECT_EQ(found[1].page_size, page);
  EXPECT_EQ(found[1].access, rwx);
  EXPECT_EQ(found[1].user_access, Access::none);
}

TEST_P(EnumerateTest, MergesAcrossTablesAndOnlyWhatContinues) {
  space.map({base, 0x1000'0000, 2 * large, rw, false, page});
  std::vector<Mapping> found = space.mappings();
  ASSERT_EQ(found.size(), 1U) << text(found);
  EXPECT_EQ(found[0].size, 2 * large);
  EXPECT_EQ(found[0].page_size, page);

  EnumerateOptions options;
  options.merge = false;
  found = space.mappings(options);
  ASSERT_EQ(found.size(), 2 * large / page);
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i].vaddr, base + i * page);
    ASSERT_EQ(found[i].paddr, 0x1000'0000 + i * page);
    ASSERT_EQ(found[i].size, page);
  }

  space.protect(base + large, page, r, {});  // other rights
  EXPECT_EQ(space.mappings().size(), 3U);
  space.unmap(base + large, page);
  space.map({base + large, 0x1000'0000, page, rw, false, {}});  // another place
  EXPECT_EQ(space.mappings().size(), 3U);
  space.unmap(base + large, page);
  EXPECT_EQ(space.mappings().size(), 2U);
}

TEST_P(EnumerateTest, DoesNotMergeDifferentPageSizes) {
  space.map({base, 0, large + page, rw, true, {}});
  const std::vector<Mapping> found = space.mappings();
  ASSERT_EQ(found.size(), 2U) << text(found);
  EXPECT_EQ(found[0].page_size, large);
  EXPECT_EQ(found[1].page_size, page);
}

TEST_P(EnumerateTest, TheWindowSelectsWholePages) {
  space.map({base, 0, large, rw, true, {}});
  space.map({base + large, large + page, 4 * page, rw, true, page});
  const auto window = [&](std::uint64_t first, std::uint64_t last) {
    EnumerateOptions options;
    options.first = first;
    options.last = last;
    return space.mappings(options);
  };
  ASSERT_EQ(window(base + 5 * page, base + 5 * page).size(), 1U);
  EXPECT_EQ(window(base + 5 * page, base + 5 * page)[0].vaddr, base);
  EXPECT_EQ(window(base + 5 * page, base + 5 * page)[0].size, large);
  const std::vector<Mapping> small = window(base + large + page + 1, base + large + 3 * page - 1);
  ASSERT_EQ(small.size(), 1U) << text(small);
  EXPECT_EQ(small[0].vaddr, base + large + page);
  EXPECT_EQ(small[0].size, 2 * page);
  EXPECT_TRUE(window(base + large + 4 * page, UINT64_MAX).empty());
  EXPECT_TRUE(window(0, base - 1).empty());
  EXPECT_TRUE(window(base + 1, base).empty());
}

TEST_P(EnumerateTest, FirstAndLastAddressOfTheRanges) {
  // One page at each end of what exists.
  EnumerateOptions all;
  std::vector<std::uint64_t> ends;
  for (const std::uint64_t vaddr : {std::uint64_t{0}, 0 - page, (std::uint64_t{1} << 32) - page}) {
    try {
      space.map({vaddr, 0x10000, page, rw, true, {}});
      ends.push_back(vaddr);
    } catch (const InvalidConfig&) {
      EXPECT_NE(vaddr, 0U);
    }
  }
  std::vector<Mapping> found = space.mappings(all);
  EXPECT_EQ(found.size(), ends.size()) << text(found);
  for (const Mapping& mapping : found) {
    EXPECT_EQ(mapping.size, page);
    EXPECT_EQ(space.unmap(mapping.vaddr, page), page);
  }
  EXPECT_TRUE(space.mappings().empty());
}

TEST_P(EnumerateTest, TheLimitNamesItself) {
  for (std::uint64_t i = 0; i < 4; ++i) space.map({base + 2 * i * page, 0, page, rw, true, {}});
  EnumerateOptions options;
  options.limit = 3;
  try {
    space.mappings(options);
    FAIL();
  } catch (const ResourceExhausted& error) {
    EXPECT_NE(std::string(error.what()).find("more than 3 "), std::string::npos) << error.what();
  }
  options.limit = 16;
  EXPECT_EQ(space.mappings(options).size(), 4U);
}

/// 4-level x86 tables by hand: PML4 0x1000, PDPT 0x2000, PD 0x3000, PT 0x4000.
class EnumerateByHand : public testing::Test {
 protected:
  EnumerateByHand() { config.root = 0x1000; }
  std::vector<Mapping> mappings(std::uint64_t limit = std::uint64_t{1} << 24) const {
    EnumerateOptions options;
    options.limit = limit;
    return AddressSpace(m.memory, config).mappings(options);
  }
  Machine m;
  X86Config config;
};

TEST_F(EnumerateByHand, RightsAreCombinedOverLevels) {
  m.put(0x1000, 0x2000 | 5);                           // no writes
  m.put(0x2000, 0x3000 | 7 | std::uint64_t{1} << 63);  // no execution
  m.put(0x3000, 0x4000 | 3);                           // supervisor
  m.put(0x4000, 0x9000 | 7);
  m.put(0x3008, 0x20'0000 | 0x87);
  const auto found = mappings();
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].access, r);
  EXPECT_EQ(found[0].user_access, Access::none);
  EXPECT_EQ(found[1].user_access, r);
  EXPECT_EQ(found[1].page_size, 2 * M);
}

TEST_F(EnumerateByHand, WhatCannotTranslateIsLeftOut) {
  m.put(0x1000, 0x2000 | 7);
  m.put(0x1008, 0x7FFF'F000 | 7);  // outside memory
  m.put(0x1010, 0x2000 | 0x87);    // reserved bit
  m.put(0x2000, 0x3000 | 7);
  m.put(0x3000, 0x4000 | 7);
  m.put(0x4000, 0x9000 | 6);  // absent
  m.put(0x4008, 0x9000 | 7);
  m.put(0x4010, 0xA000 | 7 | std::uint64_t{1} << 50);  // reserved for 46 bits
  config.physical_bits = 46;
  const auto found = mappings();
  ASSERT_EQ(found.size(), 1U) << text(found);
  EXPECT_EQ(found[0].vaddr, 0x1000U);
}

TEST_F(EnumerateByHand, TablesThatPointAtThemselvesMeetTheLimit) {
  for (std::uint64_t i = 0; i < 512; ++i) m.put(0x1000 + 8 * i, 0x1000 | 7);
  EXPECT_THROW(mappings(100'000), ResourceExhausted);
  int asked = 0;
  EnumerateOptions options;
  const auto found = AddressSpace(m.memory, config).mappings(options, [&] { return ++asked < 3; });
  EXPECT_EQ(asked, 3);
  EXPECT_FALSE(found.empty()) << "what was found before the question was answered with no";
}

TEST_F(EnumerateByHand, OneRecursiveSlotIsFine) {
  m.put(0x1000, 0x2000 | 7);
  m.put(0x2000, 0x3000 | 7);
  m.put(0x3000, 0x4000 | 7);
  m.put(0x4000, 0x9000 | 7);
  m.put(0x1000 + 511 * 8, 0x1000 | 3);
  const AddressSpace space(m.memory, config);
  for (const Mapping& mapping : space.mappings()) {
    const Translation t = space.try_translate(GuestVirtual{mapping.vaddr}, Access::none);
    EXPECT_EQ(t.paddr, mapping.paddr);
    EXPECT_EQ(t.page_size(), mapping.page_size);
  }
  EXPECT_EQ(space.mappings().size(), 5U) << "the page, and each table once through the window";
}

TEST_F(EnumerateByHand, TablesAtTheEdgeOfMemory) {
  const std::uint64_t edge = m.memory->size() - 2 * K;  // only half of this table is memory
  config.root = 0x1000;
  m.put(0x1000, 0x2000 | 7);
  m.put(0x2000, 0x3000 | 7);
  m.put(0x3000, (edge & ~(4 * K - 1)) | 7);
  const auto shorter = GuestMemory::anonymous(edge);
  std::vector<std::byte> bytes(edge);
  m.memory->read(0, bytes.data(), edge);
  shorter->write(0, bytes.data(), edge);
  const std::uint64_t entry = 0x9000 | 7;
  shorter->write(edge - 8, &entry, 8);
  const AddressSpace space(shorter, config);
  const auto found = space.mappings();
  ASSERT_EQ(found.size(), 1U) << text(found);
  EXPECT_EQ(found[0].vaddr, 255 * 4 * K);
  EXPECT_EQ(space.translate(GuestVirtual{255 * 4 * K}).paddr, 0x9000U);
}

class EnumerateSvnapot : public testing::Test {
 protected:
  EnumerateSvnapot() {
    config.root = 0x1000;
    m.put(0x1000, 0x2000 >> 2 | 1);
    m.put(0x2000, 0x3000 >> 2 | 1);
  }
  void put_run(std::uint64_t first, std::uint64_t paddr) {
    for (std::uint64_t i = 0; i < 16; ++i)
      m.put(0x3000 + (first + i) * 8, (paddr | 0x8000) >> 2 | 0xC7 | std::uint64_t{1} << 63);
  }
  Machine m;
  RiscVConfig config;
};

TEST_F(EnumerateSvnapot, RunsAreOnePageEach) {
  put_run(0, 0x10'0000);
  put_run(16, 0x11'0000);
  put_run(48, 0x20'0000);
  const AddressSpace space(m.memory, config);
  auto found = space.mappings();
  ASSERT_EQ(found.size(), 2U) << text(found);
  EXPECT_EQ(found[0].page_size, 64 * K);
  EXPECT_EQ(found[0].size, 128 * K);
  EXPECT_EQ(found[1].vaddr, 3 * 64 * K);
  EnumerateOptions options;
  options.first = 64 * K + 5000;
  options.last = options.first;
  found = space.mappings(options);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].vaddr, 64 * K);
  EXPECT_EQ(found[0].size, 64 * K);
}

TEST_F(EnumerateSvnapot, EntriesThatDisagreeSpeakForThemselves) {
  put_run(0, 0x10'0000);
  m.put(0x3000 + 3 * 8, 0);
  const AddressSpace space(m.memory, config);
  const auto found = space.mappings();
  ASSERT_EQ(found.size(), 2U) << text(found);
  EXPECT_EQ(found[0].size, 12 * K);
  EXPECT_EQ(found[1].vaddr, 16 * K);
  EXPECT_EQ(found[1].paddr, 0x10'4000U);
  for (const Mapping& mapping : found)
    EXPECT_EQ(space.translate(GuestVirtual{mapping.vaddr + mapping.size - 1}).paddr, mapping.paddr + mapping.size - 1);
}

TEST(EnumerateArm, BothHalvesInOrder) {
  Machine m;
  AArch64Config config;
  config.tcr = AArch64Config::default_tcr(4096);
  config.ttbr0 = 0x1000;
  config.ttbr1 = 0x2000;
  AddressSpace space(m.memory, config);
  space.map({0xFFFF'8000'0000'0000, 0x20'0000, 2 * M, rx, false, {}});
  space.map({0x40'0000, 0x9000, 4 * K, rw, true, {}});
  const auto found = space.mappings();
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].vaddr, 0x40'0000U);
  EXPECT_EQ(found[1].vaddr, 0xFFFF'8000'0000'0000U);
  EXPECT_EQ(found[1].access, rx);
  EXPECT_EQ(found[1].user_access, Access::none);
  EXPECT_GT(found[1].vaddr, G);
}

}  // namespace
}  // namespace vm::mem::paging
