// Hand-made x86 tables against Intel SDM vol. 3: §4.3 to §4.5 (formats), §4.6 (access rights), §4.7 (error codes).

#include <gtest/gtest.h>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

// #PF error code bits (SDM figure 4-12).
constexpr std::uint32_t P = 1;
constexpr std::uint32_t W = 2;
constexpr std::uint32_t U = 4;
constexpr std::uint32_t RSVD = 8;
constexpr std::uint32_t ID = 16;
constexpr std::uint32_t PK = 32;

constexpr std::uint64_t rwu = 7;  // present, writable, user
constexpr std::uint64_t ps = 0x80;
constexpr std::uint64_t nx = std::uint64_t{1} << 63;

constexpr std::uint64_t page_vaddr = 0x0000'0123'4567'8ABC;
constexpr std::uint64_t page_paddr = 0xABC000;

/// One path of tables to one page, deep enough for 5 levels; level 0 is the page table.
class X86Path {
 public:
  explicit X86Path(int levels) : levels_(levels) {
    config.levels = levels;
    config.root = table(levels - 1);
    for (int level = levels - 1; level > 0; --level) set(level, table(level - 1) | (top_of_pae(level) ? 1 : rwu));
    set(0, page_paddr | rwu);
  }

  bool top_of_pae(int level) const { return levels_ == 3 && level == 2; }
  std::uint64_t vaddr() const { return levels_ >= 4 ? page_vaddr : page_vaddr & 0xFFFF'FFFF; }
  std::uint64_t entry_at(int level) const {
    if (levels_ == 2) return table(level) + (vaddr() >> (12 + 10 * level) & 0x3FF) * 4;
    return table(level) + (vaddr() >> (12 + 9 * level) & 0x1FF) * 8;
  }
  std::uint64_t get(int level) const { return levels_ == 2 ? m.get32(entry_at(level)) : m.get(entry_at(level)); }
  void set(int level, std::uint64_t entry) {
    if (levels_ == 2)
      m.put32(entry_at(level), static_cast<std::uint32_t>(entry));
    else
      m.put(entry_at(level), entry);
  }
  void clear(int level, std::uint64_t bits) { set(level, get(level) & ~bits); }
  void add(int level, std::uint64_t bits) { set(level, get(level) | bits); }

  Translation ask(Access access = r, Privilege privilege = supervisor) const {
    return test::ask(m, config, vaddr(), access, privilege);
  }
  Report report(Access access = r, Privilege privilege = supervisor) const {
    return test::report(m, config, vaddr(), access, privilege);
  }

  Machine m;
  X86Config config;

 private:
  static std::uint64_t table(int level) { return 0x10000 + 0x1000 * static_cast<std::uint64_t>(level); }
  int levels_;
};

class X86Walk : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Levels, X86Walk, testing::Values(2, 3, 4, 5));

TEST_P(X86Walk, SmallPage) {
  const X86Path path(GetParam());
  const Translation t = path.ask();
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t.paddr, page_paddr | 0xABC);
  EXPECT_EQ(t.page_size(), 4096U);
  EXPECT_EQ(t.level, 0);
  EXPECT_EQ(supervisor_access(t.rights), rwx);
  EXPECT_EQ(user_access(t.rights), rwx);
}

TEST_P(X86Walk, LargePageWithPat) {
  X86Path path(GetParam());
  const std::uint64_t size = GetParam() == 2 ? std::uint64_t{4} << 20 : std::uint64_t{2} << 20;
  path.set(1, 0x4000'0000 | rwu | ps | 0x1000);  // bit 12 is PAT, not address
  const Translation t = path.ask();
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t.paddr, 0x4000'0000 | (path.vaddr() & (size - 1)));
  EXPECT_EQ(t.page_size(), size);
  EXPECT_EQ(t.level, 1);
}

TEST_P(X86Walk, AbsentAtEveryLevel) {
  for (int level = 0; level < GetParam(); ++level) {
    X86Path path(GetParam());
    path.clear(level, 1);
    EXPECT_EQ(path.report(), (Report{FaultReason::not_present, level, 0}));
    EXPECT_EQ(path.report(w), (Report{FaultReason::not_present, level, W}));
    EXPECT_EQ(path.report(rw, user), (Report{FaultReason::not_present, level, W | U}));
    EXPECT_EQ(path.report(x, user), (Report{FaultReason::not_present, level, U | (GetParam() == 2 ? 0 : ID)}));
    path.config.no_execute = false;
    EXPECT_EQ(path.report(x), (Report{FaultReason::not_present, level, 0}));
    path.config.smep = true;
    EXPECT_EQ(path.report(x), (Report{FaultReason::not_present, level, ID}));
  }
}

TEST_P(X86Walk, UserNeedsTheUserBitAtEveryLevel) {
  for (int level = 0; level < GetParam(); ++level) {
    X86Path path(GetParam());
    if (path.top_of_pae(level)) continue;
    path.clear(level, 4);
    EXPECT_EQ(path.report(r, user), (Report{FaultReason::user_denied, 0, P | U}));
    EXPECT_EQ(path.report(w, user), (Report{FaultReason::user_denied, 0, P | U | W}));
    EXPECT_EQ(path.report(rw), (Report{FaultReason::none, 0, 0}));
    EXPECT_EQ(user_access(path.ask().rights), Access::none);
  }
}

TEST_P(X86Walk, WritesNeedTheWriteBitAtEveryLevel) {
  for (int level = 0; level < GetParam(); ++level) {
    X86Path path(GetParam());
    if (path.top_of_pae(level)) continue;
    path.clear(level, 2);
    EXPECT_EQ(path.report(w, user), (Report{FaultReason::write_denied, 0, P | U | W}));
    EXPECT_EQ(path.report(w), (Report{FaultReason::write_denied, 0, P | W}));
    EXPECT_EQ(path.report(r, user), (Report{FaultReason::none, 0, 0}));
    path.config.write_protect = false;  // CR0.WP lifts it for the supervisor only
    EXPECT_EQ(path.report(w), (Report{FaultReason::none, 0, 0}));
    EXPECT_EQ(path.report(w, user), (Report{FaultReason::write_denied, 0, P | U | W}));
    EXPECT_EQ(supervisor_access(path.ask().rights), rx) << "rights are what the tables say, whatever CR0.WP";
  }
}

TEST_P(X86Walk, SmepAndSmapProtectTheSupervisorFromUserPages) {
  X86Path path(GetParam());
  path.config.smep = true;
  path.config.smap = true;
  EXPECT_EQ(path.report(x), (Report{FaultReason::supervisor_execute, 0, P | ID}));
  EXPECT_EQ(path.report(r), (Report{FaultReason::supervisor_access, 0, P}));
  EXPECT_EQ(path.report(w), (Report{FaultReason::supervisor_access, 0, P | W}));
  EXPECT_EQ(path.report(rwx, user), (Report{FaultReason::none, 0, 0}));
  path.config.ac = true;  // EFLAGS.AC lifts SMAP, not SMEP
  EXPECT_EQ(path.report(rw), (Report{FaultReason::none, 0, 0}));
  EXPECT_EQ(path.report(x), (Report{FaultReason::supervisor_execute, 0, P | ID}));
  path.config.ac = false;
  path.clear(1, 4);  // a supervisor page through one level is none of their business
  EXPECT_EQ(path.report(rwx), (Report{FaultReason::none, 0, 0}));
}

TEST_P(X86Walk, TablesOutsideMemoryAreReportedNotRead) {
  for (int level = 1; level < GetParam(); ++level) {
    X86Path path(GetParam());
    path.set(level, 0x7FFF'F000 | (path.top_of_pae(level) ? 1 : rwu));
    EXPECT_EQ(path.report(w, user), (Report{FaultReason::table_unreachable, level - 1, 0}));
  }
  X86Path path(GetParam());
  path.config.root = 0x7FFF'F000;
  EXPECT_EQ(path.report(), (Report{FaultReason::table_unreachable, GetParam() - 1, 0}));
}

TEST_P(X86Walk, NoAccessAsksForTheAddressOnly) {
  X86Path path(GetParam());
  path.config.smap = true;
  path.clear(0, 6);
  EXPECT_EQ(path.report(Access::none, user), (Report{FaultReason::none, 0, 0}));
  EXPECT_EQ(path.report(r, user), (Report{FaultReason::user_denied, 0, P | U}));
}

TEST_P(X86Walk, AccessedAndDirtyAreSetAsTheProcessorSetsThem) {
  X86Path path(GetParam());
  const AddressSpace space(path.m.memory, path.config, {std::nullopt, true});
  const auto entries = [&] {
    std::vector<std::uint64_t> all;
    for (int level = 0; level < GetParam(); ++level) all.push_back(path.get(level) & 0x60);
    return all;
  };
  std::vector<std::uint64_t> expected(static_cast<std::size_t>(GetParam()), 0);
  path.clear(0, 2);
  EXPECT_FALSE(space.try_translate(GuestVirtual{path.vaddr()}, w).ok());
  EXPECT_EQ(entries(), expected) << "a fault marks nothing";
  path.add(0, 2);
  EXPECT_TRUE(space.try_translate(GuestVirtual{path.vaddr()}, Access::none).ok());
  EXPECT_EQ(entries(), expected) << "a look-up is not an access";
  EXPECT_TRUE(space.try_translate(GuestVirtual{path.vaddr()}, r).ok());
  for (int level = 0; level < GetParam(); ++level)
    expected[static_cast<std::size_t>(level)] = path.top_of_pae(level) ? 0 : 0x20;
  EXPECT_EQ(entries(), expected);
  EXPECT_TRUE(space.try_translate(GuestVirtual{path.vaddr()}, w).ok());
  expected[0] = 0x60;
  EXPECT_EQ(entries(), expected);
}

class X86Wide : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Levels, X86Wide, testing::Values(3, 4, 5));

TEST_P(X86Wide, AddressBitsBeyondThePhysicalWidthAreReservedAtEveryLevel) {
  for (int level = 0; level < GetParam(); ++level) {
    for (unsigned width : {36U, 40U, 46U, 51U}) {
      for (unsigned n = width; n <= 62; ++n) {
        X86Path path(GetParam());
        path.config.physical_bits = static_cast<int>(width);
        path.add(level, bit(n));
        // Long mode ignores 52..62 (software, keys); PAE reserves all up to 62 (tables 4-9 to 4-11).
        const bool reserved = GetParam() == 3 || n <= 51;
        const Report expected =
            reserved ? Report{FaultReason::reserved_bit, level, P | RSVD | W | U} : Report{FaultReason::none, 0, 0};
        ASSERT_EQ(path.report(w, user), expected) << "bit " << n << ", width " << width;
      }
    }
  }
}

TEST_P(X86Wide, NoExecuteAtAnyLevelForbidsFetches) {
  for (int level = 0; level < GetParam(); ++level) {
    X86Path path(GetParam());
    path.add(level, nx);
    if (path.top_of_pae(level)) {
      EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 2, P | RSVD}));
      continue;
    }
    EXPECT_EQ(path.report(x), (Report{FaultReason::execute_denied, 0, P | ID}));
    EXPECT_EQ(path.report(x, user), (Report{FaultReason::execute_denied, 0, P | U | ID}));
    EXPECT_EQ(path.report(rw, user), (Report{FaultReason::none, 0, 0}));
    path.config.no_execute = false;  // then the bit is reserved
    EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, level, P | RSVD}));
  }
}

TEST_P(X86Wide, ReservedBitsOfLargePages) {
  for (unsigned n = 13; n <= 20; ++n) {
    X86Path path(GetParam());
    path.set(1, 0x4000'0000 | rwu | ps | bit(n));
    EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 1, P | RSVD})) << "bit " << n;
  }
}

TEST(X86Pae, TopEntriesCarryNoRightsAndReserveTheBits) {
  for (const unsigned n : {1U, 2U, 6U, 7U, 8U}) {
    X86Path path(3);
    path.add(2, bit(n));
    EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 2, P | RSVD})) << "bit " << n;
  }
  for (const unsigned n : {3U, 4U, 5U, 9U, 10U, 11U}) {  // 5: as QEMU's TCG leaves it
    X86Path path(3);
    path.add(2, bit(n));
    EXPECT_EQ(path.report(rwx, user), (Report{FaultReason::none, 0, 0})) << "bit " << n;
  }
}

TEST(X86Pae, RootNeedsOnly32ByteAlignment) {
  X86Path path(3);
  for (std::uint64_t i = 0; i < 4; ++i) path.m.put(0x50020 + 8 * i, path.m.get(0x12000 + 8 * i));
  path.config.root = 0x50020;
  EXPECT_EQ(path.ask().paddr, page_paddr | 0xABC);
}

class X86LongMode : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Levels, X86LongMode, testing::Values(4, 5));

TEST_P(X86LongMode, GigabytePages) {
  X86Path path(GetParam());
  path.set(2, 0x1'4000'0000 | rwu | ps | 0x1000);
  const Translation t = path.ask();
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t.paddr, 0x1'4000'0000 | (path.vaddr() & 0x3FFF'FFFF));
  EXPECT_EQ(t.page_size(), std::uint64_t{1} << 30);
  EXPECT_EQ(t.level, 2);
  for (unsigned n = 13; n <= 29; ++n) {
    path.set(2, 0x1'4000'0000 | rwu | ps | bit(n));
    EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 2, P | RSVD})) << "bit " << n;
  }
  path.set(2, 0x1'4000'0000 | rwu | ps);
  path.config.gigabyte_pages = false;
  EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 2, P | RSVD}));
}

TEST_P(X86LongMode, PageSizeBitIsReservedAboveGigabytePages) {
  for (int level = 3; level < GetParam(); ++level) {
    X86Path path(GetParam());
    path.add(level, ps);
    EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, level, P | RSVD}));
  }
}

TEST_P(X86LongMode, CanonicalAddresses) {
  const X86Path path(GetParam());
  const unsigned bits = GetParam() == 4 ? 48 : 57;
  const Report general_protection{FaultReason::not_canonical, GetParam() - 1, 0};
  const Report absent{FaultReason::not_present, GetParam() - 1, 0};
  EXPECT_EQ(report(path.m, path.config, bit(bits - 1)), general_protection);
  EXPECT_EQ(report(path.m, path.config, ~bit(bits - 1)), general_protection);
  EXPECT_EQ(report(path.m, path.config, page_vaddr | bit(63)), general_protection);
  EXPECT_EQ(report(path.m, path.config, bit(bits - 1) - 1), absent);
  EXPECT_EQ(report(path.m, path.config, ~(bit(bits - 1) - 1)), absent);
  EXPECT_EQ(report(path.m, path.config, UINT64_MAX), absent);
}

TEST_P(X86LongMode, ProtectionKeysOfUserPages) {
  X86Path path(GetParam());
  path.config.protection_keys = true;
  path.add(0, std::uint64_t{5} << 59);
  path.config.pkru = 1U << 10;  // AD5
  EXPECT_EQ(path.report(r, user), (Report{FaultReason::protection_key, 0, P | U | PK}));
  EXPECT_EQ(path.report(w), (Report{FaultReason::protection_key, 0, P | W | PK})) << "supervisor accesses too";
  EXPECT_EQ(path.report(x, user), (Report{FaultReason::none, 0, 0})) << "fetches never";
  path.config.pkru = 2U << 10;  // WD5
  EXPECT_EQ(path.report(r, user), (Report{FaultReason::none, 0, 0}));
  EXPECT_EQ(path.report(w, user), (Report{FaultReason::protection_key, 0, P | U | W | PK}));
  EXPECT_EQ(path.report(w), (Report{FaultReason::protection_key, 0, P | W | PK}));
  path.config.write_protect = false;
  EXPECT_EQ(path.report(w), (Report{FaultReason::none, 0, 0})) << "CR0.WP lifts write-disable for the supervisor";
  EXPECT_EQ(path.report(w, user), (Report{FaultReason::protection_key, 0, P | U | W | PK}));
  path.config.pkru = ~(3U << 10);
  EXPECT_EQ(path.report(w, user), (Report{FaultReason::none, 0, 0})) << "other keys";
  path.config.pkru = 1U << 10;
  path.config.protection_keys = false;
  EXPECT_EQ(path.report(r, user), (Report{FaultReason::none, 0, 0}));
}

TEST_P(X86LongMode, ProtectionKeysOfSupervisorPages) {
  X86Path path(GetParam());
  path.config.supervisor_keys = true;
  path.config.pkrs = 1U << 30;  // AD15
  path.add(0, std::uint64_t{15} << 59);
  EXPECT_EQ(path.report(r), (Report{FaultReason::none, 0, 0})) << "a user page has no supervisor key";
  path.clear(2, 4);
  EXPECT_EQ(path.report(r), (Report{FaultReason::protection_key, 0, P | PK}));
  EXPECT_EQ(path.report(x), (Report{FaultReason::none, 0, 0}));
}

TEST(X86ThirtyTwoBit, Pse36) {
  X86Path path(2);
  path.set(1, 0xC0'0000 | 0xA5ULL << 13 | rwu | ps);
  const Translation t = path.ask();
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t.paddr, 0xA5'00C0'0000 | (path.vaddr() & 0x3F'FFFF));
  path.add(1, bit(21));
  EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 1, P | RSVD}));
  path.set(1, 0xC0'0000 | bit(13 + 4) | rwu | ps);  // physical bit 36
  path.config.physical_bits = 36;
  EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 1, P | RSVD}));
  path.set(1, 0xC0'0000 | bit(13 + 3) | rwu | ps);
  EXPECT_EQ(path.ask().paddr >> 32, 8U);
}

TEST(X86ThirtyTwoBit, WithoutPseThePageSizeBitIsIgnored) {
  X86Path path(2);
  path.config.pse = false;
  path.add(1, ps);
  EXPECT_EQ(path.ask().paddr, page_paddr | 0xABC);
  EXPECT_EQ(path.ask().page_size(), 4096U);
}

TEST(X86ThirtyTwoBit, AddressesAbove32BitsDoNotExist) {
  const X86Path path(2);
  EXPECT_EQ(report(path.m, path.config, path.vaddr() | bit(32)).reason, FaultReason::not_canonical);
}

TEST(X86Registers, SelectTheMode) {
  const auto mode = [](std::uint64_t cr0, std::uint64_t cr4, std::uint64_t efer) {
    return X86Config::from_registers(cr0, 0x1'2345'6FFF, cr4, efer);
  };
  constexpr std::uint64_t pg = 0x8000'0001;
  EXPECT_EQ(mode(pg, 0, 0).levels, 2);
  EXPECT_EQ(mode(pg, 0, 0).root, 0x2345'6000U);
  EXPECT_EQ(mode(pg, 0x20, 0).levels, 3);
  EXPECT_EQ(mode(pg, 0x20, 0).root, 0x2345'6FE0U);
  EXPECT_EQ(mode(pg, 0x20, 0x500).levels, 4);
  EXPECT_EQ(mode(pg, 0x20, 0x500).root, 0x1'2345'6000U);
  EXPECT_EQ(mode(pg, 0x1020, 0x500).levels, 5);
  EXPECT_FALSE(mode(pg, 0x20, 0x500).write_protect);
  EXPECT_TRUE(mode(pg | 0x10000, 0x20, 0x500).write_protect);
  EXPECT_FALSE(mode(pg, 0x20, 0x500).no_execute);
  EXPECT_TRUE(mode(pg, 0x20, 0xD00).no_execute);
  EXPECT_TRUE(mode(pg, 0x30'0020, 0x500).smep);
  EXPECT_TRUE(mode(pg, 0x30'0020, 0x500).smap);
  EXPECT_TRUE(mode(pg, 0x140'0020, 0x500).protection_keys);
  EXPECT_TRUE(mode(pg, 0x140'0020, 0x500).supervisor_keys);
  EXPECT_THROW(mode(1, 0x20, 0x500), InvalidConfig);
  EXPECT_THROW(mode(pg, 0, 0x500), InvalidConfig);
}

TEST(X86Config, NonsenseIsRefused) {
  const Machine m;
  const auto refused = [&](const X86Config& config) {
    EXPECT_THROW(AddressSpace(m.memory, config), InvalidConfig) << describe(config);
  };
  X86Config config;
  config.levels = 6;
  refused(config);
  config = {};
  config.root = 0x1010;
  refused(config);
  config.root = bit(52);
  refused(config);
  config = {};
  config.physical_bits = 31;
  refused(config);
  config = {};
  config.levels = 3;
  config.root = 0x1'0000'0000;
  refused(config);
  config.root = 0x1000;
  config.protection_keys = true;
  refused(config);
}

}  // namespace
}  // namespace vm::mem::paging
