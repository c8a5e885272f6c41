// What map, unmap and protect do to the bits of RISC-V and AArch64 entries.

#include <gtest/gtest.h>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

constexpr std::uint64_t K = 1024, M = 1024 * K, G = 1024 * M;

// --- RISC-V ---------------------------------------------------------------------------------------------------------

constexpr std::uint64_t V = 1, R = 2, W = 4, X = 8, U = 16, GLOBAL = 32, A = 64, D = 128;
constexpr std::uint64_t N = std::uint64_t{1} << 63;
constexpr std::uint64_t ppn(std::uint64_t paddr) { return paddr >> 2; }

/// Sv39 tables by hand at 0x1000, 0x2000, 0x3000.
class Sv39Mapper : public testing::Test {
 protected:
  Sv39Mapper() {
    config.root = 0x1000;
    m.put(0x1000, ppn(0x2000) | V);
    m.put(0x2000, ppn(0x3000) | V);
  }
  void put_run(std::uint64_t first, std::uint64_t flags) {
    for (std::uint64_t i = 0; i < 16; ++i) m.put(0x3000 + (first + i) * 8, ppn(0x5'8000) | flags | N);
  }
  AddressSpace space() const { return AddressSpace(m.memory, config); }
  std::uint64_t pte(std::uint64_t i) const { return m.get(0x3000 + i * 8); }

  Machine m;
  RiscVConfig config;
};

TEST_F(Sv39Mapper, PartOfASvnapotRunLeavesTheRestAsSmallPages) {
  const std::uint64_t flags = V | R | W | A | D | GLOBAL | 0x300 | std::uint64_t{1} << 61;
  put_run(16, flags);
  EXPECT_EQ(space().unmap(19 * 4 * K, 8 * K), 8 * K);
  for (std::uint64_t i = 0; i < 16; ++i) {
    const std::uint64_t expected = i == 3 || i == 4 ? 0 : ppn(0x5'0000 + i * 4 * K) | flags;
    EXPECT_EQ(pte(16 + i), expected) << i;
  }
}

TEST_F(Sv39Mapper, WholeSvnapotRunsStayWhole) {
  put_run(16, V | R | W | A | D | U);
  AddressSpace s = space();
  s.protect(64 * K, 64 * K, r, {});
  for (std::uint64_t i = 0; i < 16; ++i) EXPECT_EQ(pte(16 + i), ppn(0x5'8000) | V | R | A | D | U | N);
  EXPECT_EQ(s.unmap(0, 256 * K), 64 * K);
  EXPECT_EQ(m.get(0x2000), 0U) << "the table became empty";
}

TEST_F(Sv39Mapper, ProtectingPartOfARunDetachesIt) {
  put_run(0, V | R | W | A | D);
  space().protect(60 * K, 4 * K, rx, true);
  EXPECT_EQ(pte(15), ppn(0x5'F000) | V | R | X | U | A | D);
  EXPECT_EQ(pte(14), ppn(0x5'E000) | V | R | W | A | D);
}

TEST_F(Sv39Mapper, IrregularRunsAreSplitEntryByEntry) {
  put_run(0, V | R | A | D);
  m.put(0x3000 + 5 * 8, ppn(0x77'7000) | V | R | A | D);  // an ordinary page inside the run
  m.put(0x3000 + 6 * 8, ppn(0x9'8000) | V | X | A | D | N);
  space().unmap(0, 4 * K);
  EXPECT_EQ(pte(5), ppn(0x77'7000) | V | R | A | D);
  EXPECT_EQ(pte(6), ppn(0x9'6000) | V | X | A | D);
  EXPECT_EQ(pte(7), ppn(0x5'7000) | V | R | A | D);
}

TEST_F(Sv39Mapper, SplitSuperpagesKeepTypeAndFlags) {
  const std::uint64_t flags = V | R | X | U | GLOBAL | A | 0x100 | std::uint64_t{2} << 61;
  m.put(0x1008, ppn(0x8000'0000) | flags);
  space().unmap(G, 4 * K);
  const std::uint64_t level1 = (m.get(0x1008) & 0x3FF'FFFF'FFFF'FC00) << 2;
  EXPECT_EQ(m.get(0x1008), ppn(level1) | V);
  EXPECT_EQ(m.get(level1 + 8 * 3), ppn(0x8000'0000 + 3 * 2 * M) | flags);
  const std::uint64_t level0 = (m.get(level1) & 0x3FF'FFFF'FFFF'FC00) << 2;
  EXPECT_EQ(m.get(level0), 0U);
  EXPECT_EQ(m.get(level0 + 8 * 7), ppn(0x8000'0000 + 7 * 4 * K) | flags);
}

TEST_F(Sv39Mapper, ExecuteOnlyPages) {
  AddressSpace s = space();
  s.map({0, 0x9000, 4 * K, x, true, {}});
  EXPECT_EQ(pte(0), ppn(0x9000) | V | X | U | A | D);
  s.protect(0, 4 * K, w, {});
  EXPECT_EQ(pte(0), ppn(0x9000) | V | R | W | U | A | D) << "write without read is a reserved encoding";
}

// --- AArch64 --------------------------------------------------------------------------------------------------------

constexpr std::uint64_t EL0 = 1 << 6, RO = 1 << 7, SH = 3 << 8, AF = 1 << 10, NG = 1 << 11;
constexpr std::uint64_t NT = 1 << 16, GP = std::uint64_t{1} << 50, DBM = std::uint64_t{1} << 51;
constexpr std::uint64_t CONTIGUOUS = std::uint64_t{1} << 52, PXN = std::uint64_t{1} << 53, UXN = std::uint64_t{1} << 54;

/// 4K tables by hand for the lower half: 0x1000, 0x2000, 0x3000, 0x4000.
class A64Mapper : public testing::Test {
 protected:
  A64Mapper() {
    config.granule = 4096;
    config.tcr = AArch64Config::default_tcr(4096);
    config.ttbr0 = 0x1000;
    config.ttbr1 = 0x8000;
    m.put(0x1000, 0x2000 | 3);
    m.put(0x2000, 0x3000 | 3);
    m.put(0x3000, 0x4000 | 3);
  }
  AddressSpace space() const { return AddressSpace(m.memory, config); }
  Translation look_up(std::uint64_t vaddr) const { return ask(m, config, vaddr, Access::none); }

  Machine m;
  AArch64Config config;
};

TEST_F(A64Mapper, SplitBlocksKeepAttributesAndDropBlockOnlyBits) {
  const std::uint64_t software = std::uint64_t{0xA} << 55;
  const std::uint64_t flags = 5 << 2 | EL0 | RO | SH | AF | NG | GP | DBM | PXN | software;
  m.put(0x2008, 0x8000'0000 | flags | NT | 1);
  EXPECT_EQ(space().unmap(G + 2 * M, 4 * K), 4 * K);
  const std::uint64_t level1 = m.get(0x2008) & 0xFFFF'FFFF'F000;
  EXPECT_EQ(m.get(0x2008), level1 | 3);
  EXPECT_EQ(m.get(level1), 0x8000'0000 | flags | 1);
  const std::uint64_t level0 = m.get(level1 + 8) & 0xFFFF'FFFF'F000;
  EXPECT_EQ(m.get(level0), 0U);
  EXPECT_EQ(m.get(level0 + 8), (0x8000'0000 + 2 * M + 4 * K) | flags | 3);
  EXPECT_EQ(look_up(G + 5 * M).paddr, 0x8000'0000 + 5 * M);
}

TEST_F(A64Mapper, ContiguousRunsLoseTheirBitWhenBroken) {
  for (std::uint64_t i = 0; i < 32; ++i) m.put(0x4000 + 8 * i, (0x10'0000 + i * 4 * K) | AF | RO | CONTIGUOUS | 3);
  AddressSpace s = space();
  s.protect(0, 64 * K, rw, {});
  EXPECT_NE(m.get(0x4000) & CONTIGUOUS, 0U) << "a run changed as a whole stays one";
  s.unmap(64 * K, 4 * K);
  EXPECT_EQ(m.get(0x4000 + 8 * 16), 0U);
  for (std::uint64_t i = 17; i < 32; ++i) EXPECT_EQ(m.get(0x4000 + 8 * i), (0x10'0000 + i * 4 * K) | AF | RO | 3);
  EXPECT_NE(m.get(0x4000) & CONTIGUOUS, 0U);
}

TEST_F(A64Mapper, SplittingAContiguousBlockDetachesItsNeighbours) {
  for (std::uint64_t i = 16; i < 32; ++i) m.put(0x3000 + 8 * i, (0x4000'0000 + i * 2 * M) | AF | CONTIGUOUS | 1);
  space().unmap(32 * M + 4 * K, 4 * K);
  EXPECT_EQ(m.get(0x3000 + 8 * 17), (0x4000'0000 + 17 * 2 * M) | AF | 1);
  const std::uint64_t parts = m.get(0x3000 + 8 * 16) & 0xFFFF'FFFF'F000;
  EXPECT_EQ(m.get(parts), (0x4000'0000 + 16 * 2 * M) | AF | 3);
}

TEST_F(A64Mapper, HierarchicalRestrictionsAreHandedDown) {
  m.put(0x2000, 0x3000 | 3 | std::uint64_t{0xF} << 59);  // nothing but reads by EL1
  m.put(0x4008, 0x9000 | AF | EL0 | DBM | 3);
  m.put(0x3008, 0x20'0000 | AF | EL0 | 1);
  const Rights page_before = look_up(4 * K).rights;
  const Rights block_before = look_up(2 * M).rights;
  ASSERT_EQ(supervisor_access(page_before), r);
  space().map({0, 0xA000, 4 * K, rwx, true, {}});
  EXPECT_EQ(user_access(look_up(0).rights), rwx);
  EXPECT_EQ(look_up(4 * K).rights, page_before);
  EXPECT_EQ(look_up(2 * M).rights, block_before);
  EXPECT_EQ(m.get(0x2000), 0x3000U | 3);
  config.tcr |= bit(39) | bit(40);  // with HA and HD, DBM would make the restricted page writable again
  EXPECT_EQ(look_up(4 * K).rights, page_before);
}

TEST_F(A64Mapper, IgnoredHierarchicalBitsAreLeftAlone) {
  config.tcr |= bit(41) | bit(42);  // HPD0, HPD1
  m.put(0x2000, 0x3000 | 3 | std::uint64_t{0xF} << 59);
  space().map({0, 0xA000, 4 * K, rwx, true, {}});
  EXPECT_EQ(m.get(0x2000), 0x3000 | 3 | std::uint64_t{0xF} << 59);
}

TEST_F(A64Mapper, DirtyTrackingSurvivesProtectWhereItMeansSomething) {
  config.tcr |= bit(39) | bit(40);
  m.put(0x4000, 0x9000 | AF | RO | DBM | PXN | UXN | 3);  // writable, clean
  AddressSpace s = space();
  s.protect(0, 4 * K, rw, {});
  EXPECT_EQ(m.get(0x4000), 0x9000 | AF | RO | DBM | PXN | UXN | 3) << "it was writable, and stays clean";
  s.protect(0, 4 * K, r, {});
  EXPECT_EQ(m.get(0x4000), 0x9000 | AF | RO | PXN | UXN | 3);
  s.protect(0, 4 * K, rw, {});
  EXPECT_EQ(m.get(0x4000), 0x9000 | AF | PXN | UXN | 3);
}

TEST_F(A64Mapper, WriteAndExecuteCannotBeHadUnderWxn) {
  config.wxn = true;
  AddressSpace s = space();
  EXPECT_THROW(s.map({0, 0x9000, 4 * K, rwx, false, {}}), InvalidConfig);
  EXPECT_THROW(s.map({0, 0x9000, 4 * K, rwx, true, {}}), InvalidConfig);
  s.map({0, 0x9000, 4 * K, rx, true, {}});
  EXPECT_THROW(s.protect(0, 4 * K, rwx, {}), InvalidConfig);
  EXPECT_EQ(user_access(look_up(0).rights), rx);
}

TEST_F(A64Mapper, FiftyTwoBitAddressesAreSpreadAsTheGranuleWants) {
  const std::uint64_t paddr = std::uint64_t{0xE} << 48 | 0x1'0000;
  AArch64Config wide;
  wide.granule = 65536;
  wide.ttbr0 = 0x10000;
  wide.ttbr1 = 0x20000;
  wide.tcr = (AArch64Config::default_tcr(65536) & ~(std::uint64_t{7} << 32)) | std::uint64_t{6} << 32;
  AddressSpace lpa(m.memory, wide);
  lpa.map({0x1'0000, paddr, 64 * K, rw, true, {}});
  EXPECT_EQ(lpa.translate(GuestVirtual{0x1'2345}).paddr, paddr + 0x2345);
  wide.tcr = AArch64Config::default_tcr(65536);  // 48-bit output
  EXPECT_THROW(AddressSpace(m.memory, wide).map({0x2'0000, paddr, 64 * K, rw, true, {}}), InvalidConfig);

  wide.granule = 4096;
  wide.tcr = (AArch64Config::default_tcr(4096) & ~(std::uint64_t{7} << 32)) | std::uint64_t{6} << 32 | bit(59);
  wide.ttbr0 = 0x30000;
  AddressSpace lpa2(m.memory, wide);
  lpa2.map({0x1000, paddr, 4 * K, rw, true, {}});
  EXPECT_EQ(lpa2.translate(GuestVirtual{0x1234}).paddr, paddr + 0x234);
}

}  // namespace
}  // namespace vm::mem::paging
