// What map, unmap and protect do to the bits of x86 entries, and how they treat tables that somebody else wrote.

#include <gtest/gtest.h>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

constexpr std::uint64_t K = 1024, M = 1024 * K, G = 1024 * M;
constexpr std::uint64_t present = 1, write = 2, user_bit = 4, accessed = 0x20, dirty = 0x40, ps = 0x80, global = 0x100;
constexpr std::uint64_t large_pat = 0x1000, small_pat = 0x80;
constexpr std::uint64_t nx = std::uint64_t{1} << 63;
constexpr std::uint64_t address_bits = 0x000F'FFFF'FFFF'F000;

/// 4-level tables by hand at fixed places, for addresses below 512 GiB: PML4 0x1000, PDPT 0x2000, PD 0x3000, PT 0x4000.
class X86Mapper : public testing::Test {
 protected:
  X86Mapper() {
    config.root = 0x1000;
    m.put(0x1000, 0x2000 | present | write | user_bit);
    m.put(0x2000, 0x3000 | present | write | user_bit);
    m.put(0x3000, 0x4000 | present | write | user_bit);
  }
  AddressSpace space() const { return AddressSpace(m.memory, config); }
  Translation look_up(std::uint64_t vaddr) const { return ask(m, config, vaddr, Access::none); }
  std::uint64_t child(std::uint64_t entry_at) const { return m.get(entry_at) & address_bits; }

  Machine m;
  X86Config config;
};

TEST_F(X86Mapper, SplitGigabytePageKeepsEveryAttribute) {
  const std::uint64_t software = std::uint64_t{0x5A} << 52;  // key 5 and software bits 54, 52
  const std::uint64_t flags = present | write | user_bit | accessed | dirty | global | 0x18 | 0xA00 | nx | software;
  m.put(0x2000, 0x4000'0000 | flags | ps | large_pat);
  AddressSpace s = space();
  EXPECT_EQ(s.unmap(2 * M + 4 * K, 4 * K), 4 * K);
  const std::uint64_t pd = child(0x2000);
  EXPECT_EQ(m.get(0x2000), pd | present | write | user_bit);
  EXPECT_EQ(m.get(pd), 0x4000'0000 | flags | ps | large_pat);
  EXPECT_EQ(m.get(pd + 511 * 8), (0x4000'0000 + 511 * 2 * M) | flags | ps | large_pat);
  const std::uint64_t pt = child(pd + 8);
  EXPECT_EQ(m.get(pt), (0x4000'0000 + 2 * M) | flags | small_pat);
  EXPECT_EQ(m.get(pt + 8), 0U);
  EXPECT_EQ(m.get(pt + 16), (0x4000'0000 + 2 * M + 8 * K) | flags | small_pat);
  EXPECT_EQ(look_up(3 * M).paddr, 0x4000'0000 + 3 * M);
}

TEST_F(X86Mapper, SplitWithoutPatClearsTheSizeBit) {
  m.put(0x3000, 0x60'0000 | present | ps);
  space().unmap(0, 4 * K);
  EXPECT_EQ(m.get(child(0x3000) + 8), 0x60'1000 | present);
  EXPECT_EQ(user_access(look_up(4 * K).rights), Access::none);
}

TEST_F(X86Mapper, ProtectKeepsEverythingButTheRights) {
  const std::uint64_t other = accessed | global | 0x18 | 0xE00 | std::uint64_t{0x7FF} << 52 | small_pat;
  m.put(0x4000, 0x9000 | other | present | write | user_bit);
  AddressSpace s = space();
  s.protect(0, 4 * K, r, false);
  EXPECT_EQ(m.get(0x4000), 0x9000 | other | present | nx);
  s.protect(0, 4 * K, rwx, true);
  EXPECT_EQ(m.get(0x4000), 0x9000 | other | present | write | user_bit) << "D stays clear: software tracks it";
}

TEST_F(X86Mapper, WithoutNxExecutionCannotBeTakenAway) {
  config.no_execute = false;
  AddressSpace s = space();
  s.map({0, 0x9000, 4 * K, r, true, {}});
  s.protect(0, 4 * K, rw, {});
  EXPECT_EQ(m.get(0x4000), 0x9000 | present | write | user_bit | accessed | dirty);
}

TEST_F(X86Mapper, RestrictiveTablesHandTheirRestrictionDown) {
  // The PDPT entry is read-only, supervisor and no-execute; below it are two pages and a large page that may do all.
  m.put(0x2000, 0x3000 | present | accessed | nx);
  m.put(0x3008, 0x20'0000 | present | write | user_bit | ps);
  m.put(0x4000, 0x9000 | present | write | user_bit);
  m.put(0x4010, 0xB000 | write | user_bit);  // not present: a swap entry, say
  const Rights before = look_up(0).rights;
  const Rights large_before = look_up(2 * M).rights;
  ASSERT_EQ(supervisor_access(before), r);
  space().map({4 * K, 0xA000, 4 * K, rwx, true, {}});
  EXPECT_EQ(user_access(look_up(4 * K).rights), rwx) << "as asked";
  EXPECT_EQ(look_up(0).rights, before) << "and nobody else gained anything";
  EXPECT_EQ(look_up(2 * M).rights, large_before);
  EXPECT_EQ(m.get(0x2000), 0x3000 | present | accessed | write | user_bit);
  EXPECT_EQ(m.get(0x4010), 0xB000 | write | user_bit) << "entries that translate nothing are not touched";
}

TEST_F(X86Mapper, TablesThatGrantEnoughStayAsTheyAre) {
  m.put(0x2000, 0x3000 | present | write);
  space().map({0, 0x9000, 4 * K, rw, false, {}});
  EXPECT_EQ(m.get(0x2000), 0x3000 | present | write);
}

TEST_F(X86Mapper, ProtectPushesRestrictionsDownBeforeItSplits) {
  m.put(0x2000, 0x3000 | present | user_bit);
  m.put(0x3000, 0x60'0000 | present | write | user_bit | ps);
  space().protect(4 * K, 4 * K, rw, {});
  EXPECT_EQ(user_access(look_up(4 * K).rights), rw);
  for (const std::uint64_t vaddr : {std::uint64_t{0}, 8 * K, 2 * M - 4 * K})
    EXPECT_EQ(user_access(look_up(vaddr).rights), rx) << hex(vaddr);
}

TEST_F(X86Mapper, ProtectWithoutUserKeepsTheEffectivePrivilege) {
  m.put(0x2000, 0x3000 | present | write);  // supervisor, whatever the leaf says
  m.put(0x4000, 0x9000 | present | user_bit);
  space().protect(0, 4 * K, rw, {});
  EXPECT_EQ(supervisor_access(look_up(0).rights), rw);
  EXPECT_EQ(user_access(look_up(0).rights), Access::none);
}

TEST_F(X86Mapper, FailedPushDownIsTakenBack) {
  m.put(0x2000, 0x3000 | present);
  m.put(0x4000, 0x9000 | present | write | user_bit);
  m.put(0x4010, 0xA000 | present | write | user_bit);
  const auto before = m.bytes();
  EXPECT_THROW(space().map({4 * K, 0x9000, 8 * K, rwx, true, {}}), InvalidConfig);
  EXPECT_EQ(m.bytes() == before, true);
}

TEST_F(X86Mapper, MalformedEntriesAreInTheWay) {
  m.put(0x4000, 0x9000 | present | write | std::uint64_t{1} << 51);
  config.physical_bits = 46;
  AddressSpace s = space();
  try {
    s.map({0, 0x9000, 4 * K, r, true, {}});
    FAIL();
  } catch (const InvalidConfig& error) {
    EXPECT_NE(std::string(error.what()).find("entry at 0x4000 for 0x0 is present but malformed"), std::string::npos)
        << error.what();
  }
  EXPECT_EQ(s.unmap(0, 4 * K), 0U) << "it translates nothing, and stays";
  EXPECT_THROW(s.protect(0, 4 * K, r, {}), PageFault);
}

TEST_F(X86Mapper, RecursiveTablesAreNotChangedThroughThemselves) {
  const std::uint64_t slot = 511;
  m.put(0x1000 + slot * 8, 0x1000 | present | write);
  m.put(0x4000, 0x9000 | present | write | user_bit);
  AddressSpace s = space();
  const std::uint64_t window = ~((std::uint64_t{1} << 39) - 1);
  EXPECT_EQ(look_up(window).paddr, 0x4000U) << "the page tables, mapped";
  const auto before = m.bytes();
  EXPECT_THROW(s.unmap(window, 4 * K), InvalidConfig);
  EXPECT_THROW(s.map({window + 4 * K, 0, 4 * K, r, false, {}}), InvalidConfig);
  EXPECT_THROW(s.protect(window, 4 * K, r, {}), InvalidConfig);
  EXPECT_EQ(m.bytes() == before, true);
  EXPECT_EQ(s.unmap(0, std::uint64_t{1} << 47), 4 * K) << "the other half is free to change";
}

TEST_F(X86Mapper, TablesThatShareTablesEndSomewhere) {
  // Each table holds 512 times the same next one: 2^36 pages described by four frames.
  for (std::uint64_t i = 0; i < 512; ++i) {
    m.put(0x1000 + 8 * i, 0x2000 | present | write | user_bit);
    m.put(0x2000 + 8 * i, 0x3000 | present | write | user_bit);
    m.put(0x3000 + 8 * i, 0x4000 | present | write | user_bit);
    m.put(0x4000 + 8 * i, 0x9000 | present | write | user_bit);
  }
  AddressSpace s = space();
  EXPECT_EQ(s.unmap(0, std::uint64_t{1} << 47), 2 * M) << "the table is emptied once and left out once";
  for (std::uint64_t i = 0; i < 256; ++i) EXPECT_EQ(look_up(i * G).reason, FaultReason::not_present);
}

class X86Pse36 : public testing::Test {
 protected:
  X86Pse36() {
    config.levels = 2;
    config.root = 0x1000;
  }
  Machine m;
  X86Config config;
};

TEST_F(X86Pse36, LargePagesReachFortyBitsAndSmallOnesThirtyTwo) {
  AddressSpace s(m.memory, config);
  s.map({0x40'0000, 0xA5'0040'0000, 4 * M, rw, true, {}});
  EXPECT_EQ(s.translate(GuestVirtual{0x40'1234}).paddr, 0xA5'0040'1234U);
  const auto before = m.bytes();
  EXPECT_THROW(s.map({0x80'0000, 0xA5'0000'1000, 4 * K, rw, true, {}}), InvalidConfig);
  EXPECT_THROW(s.map({0x80'0000, 0x1'0000'0000, 4 * M, rw, true, 4 * K}), InvalidConfig);
  EXPECT_THROW(s.map({0x80'0000, 0x100'0000'0000, 4 * M, rw, true, {}}), InvalidConfig);
  EXPECT_THROW(s.unmap(0x40'0000, 4 * K), InvalidConfig) << "its parts could not name their memory";
  EXPECT_EQ(m.bytes() == before, true);
  EXPECT_EQ(s.unmap(0x40'0000, 4 * M), 4 * M);
}

TEST_F(X86Pse36, TablesStayBelowFourGigabytes) {
  m.memory->add(*GuestMemory::anonymous(M, 0x1'0000'0000));
  AddressSpace s(m.memory, config);
  s.map({0x40'0000, 0x9000, 4 * K, rw, true, {}});
  EXPECT_EQ(m.get32(0x1004) & 0xFFFF'F000, m.memory->table()->regions()[0].size - 4 * K);
}

TEST(X86PaeMapper, TopEntriesGetNoRights) {
  Machine m;
  X86Config config;
  config.levels = 3;
  config.root = 0x1020;
  AddressSpace s(m.memory, config);
  s.map({0xC000'0000, 0x9000, 4 * K, rwx, true, {}});
  EXPECT_EQ(m.get(0x1038) & 0xFFF, present);
  EXPECT_TRUE(s.try_translate(GuestVirtual{0xC000'0000}, rwx, user).ok());
  EXPECT_EQ(s.unmap(0xC000'0000, 4 * K), 4 * K);
  EXPECT_EQ(m.get(0x1038), 0U);
}

}  // namespace
}  // namespace vm::mem::paging
