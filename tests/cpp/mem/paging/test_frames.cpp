// Where new tables go, and where they never go.

#include <gtest/gtest.h>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

constexpr std::uint64_t K = 1024, M = 1024 * K, G = 1024 * M;
constexpr std::uint64_t root = 0x1000;

class Frames : public testing::Test {
 protected:
  X86Config config = [] {
    X86Config c;
    c.root = root;
    return c;
  }();
  Machine m{M};

  AddressSpace space(std::optional<TableRange> tables = {}) const {
    return AddressSpace(m.memory, config, {tables, false});
  }
  static MapRequest page_at(std::uint64_t vaddr) { return {vaddr, 0, 4 * K, rw, true, {}}; }
  std::uint64_t first_table() const { return m.get(root) & 0xFFFF'F000; }
};

TEST_F(Frames, ComeFromTheRangeFromItsTopDownwards) {
  AddressSpace s = space(TableRange{0x20000, 0x22FFF});
  s.map(page_at(0));
  EXPECT_EQ(first_table(), 0x22000U);
  for (std::uint64_t at = 0x23000; at < M; at += 8) ASSERT_EQ(m.get(at), 0U);
  EXPECT_NE(m.get(0x20000), 0U) << "all three are used";
}

TEST_F(Frames, ExhaustionSaysWhatWasLookedAtAndChangesNothing) {
  AddressSpace s = space(TableRange{0x20000, 0x24FFF});
  s.map(page_at(0));
  m.put(0x21008, 1);
  const auto before = m.bytes();
  try {
    s.map({4 * K, 0, std::uint64_t{2} << 20, rw, true, 4 * K});  // one more table would do
    s.map(page_at(G));                                           // two more
    FAIL();
  } catch (const ResourceExhausted& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("of 5 aligned frames of 4096 bytes"), std::string::npos) << message;
    EXPECT_NE(message.find("4 are tables of this address space and 1 hold data"), std::string::npos) << message;
    EXPECT_NE(message.find("tables=range("), std::string::npos) << message;
  }
  EXPECT_FALSE(s.try_translate(GuestVirtual{G}, Access::none).ok());
  EXPECT_EQ(s.unmap(4 * K, std::uint64_t{2} << 20), std::uint64_t{2} << 20);
  EXPECT_EQ(m.bytes() == before, true);
  s.map(page_at(2 * M));
}

TEST_F(Frames, FramesWithDataAreLeftAlone) {
  m.put(M - 8, 1);
  m.put(M - 8 * K, std::uint64_t{1} << 63);
  space().map(page_at(0));
  EXPECT_EQ(first_table(), M - 12 * K);
}

TEST_F(Frames, EmptyTablesInUseAreLeftAlone) {
  // A table that is linked but still empty, just where the first new table would go.
  m.put(root + 8, (M - 4 * K) | 7);
  AddressSpace s = space();
  s.map(page_at(0));
  EXPECT_EQ(first_table(), M - 8 * K);
  s.map(page_at(512 * G));
  EXPECT_NE(m.get(M - 4 * K), 0U) << "it is used where it stands";
}

TEST_F(Frames, NeverTakeTheTopTable) {
  config.root = M - 4 * K;
  space().map(page_at(0));
  EXPECT_EQ(m.get(M - 4 * K) & 0xFFFF'F000, M - 8 * K);
}

TEST_F(Frames, OtherRootsTablesHoldDataForUs) {
  AddressSpace one = space();
  one.map(page_at(0));
  X86Config other = config;
  other.root = 0x2000;
  AddressSpace two(m.memory, other);
  two.map(page_at(0));
  EXPECT_EQ(m.get(0x2000) & 0xFFFF'F000, M - 16 * K);
  EXPECT_TRUE(one.try_translate(GuestVirtual{0}).ok());
}

TEST_F(Frames, FreedFramesAreUsedAgain) {
  AddressSpace s = space(TableRange{0x20000, 0x22FFF});
  for (std::uint64_t i = 0; i < 100; ++i) {
    s.map(page_at(i * 512 * G % (128 * 1024 * G)));
    EXPECT_EQ(s.unmap(i * 512 * G % (128 * 1024 * G), 4 * K), 4 * K);
  }
}

TEST_F(Frames, TablesThatAnotherAddressSpaceFreedAreFound) {
  const TableRange range{0x20000, 0x22FFF};
  AddressSpace(m.memory, config, {range, false}).map(page_at(0));
  AddressSpace s = space(range);
  EXPECT_THROW(s.map(page_at(512 * G)), ResourceExhausted);
  EXPECT_EQ(s.unmap(0, 4 * K), 4 * K);
  s.map(page_at(512 * G));
  EXPECT_TRUE(s.try_translate(GuestVirtual{512 * G}).ok());
}

TEST_F(Frames, FreedFramesThatSomebodyWroteToAreLost) {
  AddressSpace s = space(TableRange{0x20000, 0x22FFF});
  s.map(page_at(0));
  s.unmap(0, 4 * K);
  m.put(0x21000, 1);
  EXPECT_THROW(s.map(page_at(0)), ResourceExhausted);
  EXPECT_EQ(m.get(0x21000), 1U);
  s.map({0, 0, G, rw, true, {}});
}

TEST_F(Frames, RegionsBelowTheLastWritableOneAreNext) {
  m.memory->add(*GuestMemory::anonymous(8 * K, 16 * M));
  std::vector<Region> regions = m.memory->table()->regions();
  regions.push_back(GuestMemory::anonymous(M, 32 * M)->table()->regions()[0]);
  regions.back().writable = false;
  const auto memory = std::make_shared<GuestMemory>(RegionTable(regions), ImageFacts{});
  AddressSpace(memory, config).map(page_at(0));
  EXPECT_EQ(first_table(), 16 * M + 4 * K);
  EXPECT_NE(m.get(M - 4 * K), 0U) << "two frames from the last writable region, one from the region before";
}

TEST_F(Frames, LargeGranulesTakeAlignedLargeFrames) {
  AArch64Config arm;
  arm.granule = 65536;
  arm.ttbr0 = 0x10000;
  arm.tcr = AArch64Config::default_tcr(65536) | bit(23);
  AddressSpace s(m.memory, arm, {TableRange{0x28000, 0x57FFF}, false});
  s.map({0, 0, 64 * K, rw, true, {}});
  EXPECT_EQ(m.get(0x10000) & ~std::uint64_t{3}, 0x40000U);
  EXPECT_NE(m.get(0x30000), 0U);
  EXPECT_FALSE(s.try_translate(GuestVirtual{4 * 1024 * G}, Access::none).ok());
}

TEST_F(Frames, RangesMustBeFrames) {
  EXPECT_THROW(space(TableRange{0x20000, 0x20FFE}), InvalidConfig);
  EXPECT_THROW(space(TableRange{0x20800, 0x20FFF}), InvalidConfig);
  EXPECT_THROW(space(TableRange{0x21000, 0x20FFF}), InvalidConfig);
  EXPECT_THROW(space(TableRange{M, 2 * M - 1}).map(page_at(0)), ResourceExhausted) << "no memory there";
}

}  // namespace
}  // namespace vm::mem::paging
