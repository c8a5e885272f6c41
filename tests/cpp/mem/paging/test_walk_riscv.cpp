// Hand-made RISC-V tables against the Privileged Architecture: Sv32 to Sv57 (translation process), Svnapot, Svpbmt,
// Svade and Svadu, exception causes (table of mcause).

#include <gtest/gtest.h>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

constexpr std::uint32_t fetch_fault = 12;
constexpr std::uint32_t load_fault = 13;
constexpr std::uint32_t store_fault = 15;

constexpr std::uint64_t V = 1;
constexpr std::uint64_t R = 2;
constexpr std::uint64_t W = 4;
constexpr std::uint64_t X = 8;
constexpr std::uint64_t U = 16;
constexpr std::uint64_t A = 64;
constexpr std::uint64_t D = 128;
constexpr std::uint64_t N = std::uint64_t{1} << 63;
constexpr std::uint64_t all_rights = V | R | W | X | A | D;

constexpr std::uint64_t ppn(std::uint64_t paddr) { return paddr >> 2; }

constexpr std::uint64_t page_vaddr = 0x0000'0012'3456'7ABC;
constexpr std::uint64_t page_paddr = 0xABC000;

int levels_of(RiscVMode mode) {
  switch (mode) {
    case RiscVMode::sv32: return 2;
    case RiscVMode::sv39: return 3;
    case RiscVMode::sv48: return 4;
    case RiscVMode::sv57: return 5;
  }
  return 0;
}

/// One path of tables to one page; level 0 holds the page's entry.
class RiscVPath {
 public:
  explicit RiscVPath(RiscVMode mode) : levels(levels_of(mode)) {
    config.mode = mode;
    config.root = table(levels - 1);
    for (int level = levels - 1; level > 0; --level) set(level, ppn(table(level - 1)) | V);
    set(0, ppn(page_paddr) | all_rights);
  }

  std::uint64_t vaddr() const { return levels > 2 ? page_vaddr : page_vaddr & 0xFFFF'FFFF; }
  std::uint64_t entry_at(int level) const {
    if (levels == 2) return table(level) + (vaddr() >> (12 + 10 * level) & 0x3FF) * 4;
    return table(level) + (vaddr() >> (12 + 9 * level) & 0x1FF) * 8;
  }
  std::uint64_t get(int level) const { return levels == 2 ? m.get32(entry_at(level)) : m.get(entry_at(level)); }
  void set(int level, std::uint64_t entry) {
    if (levels == 2)
      m.put32(entry_at(level), static_cast<std::uint32_t>(entry));
    else
      m.put(entry_at(level), entry);
  }
  void leaf(std::uint64_t flags) { set(0, ppn(page_paddr) | flags); }

  Translation ask(Access access = r, Privilege privilege = supervisor) const {
    return test::ask(m, config, vaddr(), access, privilege);
  }
  Report report(Access access = r, Privilege privilege = supervisor) const {
    return test::report(m, config, vaddr(), access, privilege);
  }

  Machine m;
  RiscVConfig config;
  int levels;

 private:
  static std::uint64_t table(int level) { return 0x10000 + 0x1000 * static_cast<std::uint64_t>(level); }
};

class RiscVWalk : public testing::TestWithParam<RiscVMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, RiscVWalk,
                         testing::Values(RiscVMode::sv32, RiscVMode::sv39, RiscVMode::sv48, RiscVMode::sv57));
class RiscVWide : public testing::TestWithParam<RiscVMode> {};
INSTANTIATE_TEST_SUITE_P(Modes, RiscVWide, testing::Values(RiscVMode::sv39, RiscVMode::sv48, RiscVMode::sv57));

TEST_P(RiscVWalk, SmallPage) {
  const RiscVPath path(GetParam());
  const Translation t = path.ask();
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t.paddr, page_paddr | 0xABC);
  EXPECT_EQ(t.page_size(), 4096U);
  EXPECT_EQ(supervisor_access(t.rights), rwx);
  EXPECT_EQ(user_access(t.rights), Access::none);
}

TEST_P(RiscVWalk, SuperpagesAtEveryLevel) {
  for (int level = 1; level < levels_of(GetParam()); ++level) {
    RiscVPath path(GetParam());
    const unsigned shift = 12U + static_cast<unsigned>(level) * (path.levels == 2 ? 10U : 9U);
    const std::uint64_t base = bit(shift);
    path.set(level, ppn(base) | all_rights);
    const Translation t = path.ask();
    ASSERT_TRUE(t.ok());
    EXPECT_EQ(t.paddr, base | (path.vaddr() & (bit(shift) - 1)));
    EXPECT_EQ(t.page_size(), bit(shift));
    EXPECT_EQ(t.level, level);
    for (unsigned n = 12; n < shift; ++n) {
      path.set(level, ppn(base | bit(n)) | all_rights);
      EXPECT_EQ(path.report(w), (Report{FaultReason::misaligned_page, level, store_fault})) << "bit " << n;
    }
  }
}

TEST_P(RiscVWalk, AbsentAtEveryLevel) {
  for (int level = 0; level < levels_of(GetParam()); ++level) {
    RiscVPath path(GetParam());
    path.set(level, path.get(level) & ~V);
    EXPECT_EQ(path.report(r), (Report{FaultReason::not_present, level, load_fault}));
    EXPECT_EQ(path.report(rw), (Report{FaultReason::not_present, level, store_fault}));
    EXPECT_EQ(path.report(x, user), (Report{FaultReason::not_present, level, fetch_fault}));
  }
}

TEST_P(RiscVWalk, PointerInTheLastTableIsAFault) {
  RiscVPath path(GetParam());
  path.leaf(V);
  EXPECT_EQ(path.report(), (Report{FaultReason::not_present, 0, load_fault}));
}

TEST_P(RiscVWalk, WritableWithoutReadableIsReservedAtEveryLevel) {
  for (int level = 0; level < levels_of(GetParam()); ++level) {
    for (const std::uint64_t rights : {W, W | X}) {
      RiscVPath path(GetParam());
      path.set(level, V | A | D | rights);
      EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, level, load_fault}));
    }
  }
}

TEST_P(RiscVWalk, PointersReserveUserAccessedAndDirty) {
  for (int level = 1; level < levels_of(GetParam()); ++level) {
    for (const std::uint64_t flag : {U, A, D}) {
      RiscVPath path(GetParam());
      path.set(level, path.get(level) | flag);
      EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, level, load_fault}));
    }
    RiscVPath path(GetParam());
    path.set(level, path.get(level) | 0x320);  // G and the software bits are free
    EXPECT_TRUE(path.ask().ok());
  }
}

TEST_P(RiscVWalk, Rights) {
  const struct {
    std::uint64_t flags;
    Access allowed;
  } cases[] = {{R, r}, {R | W, rw}, {X, x}, {R | X, rx}, {R | W | X, rwx}};
  for (const auto& c : cases) {
    RiscVPath path(GetParam());
    path.leaf(V | A | D | c.flags);
    EXPECT_EQ(supervisor_access(path.ask(Access::none).rights), c.allowed);
    for (const Access one : {r, w, x}) {
      const FaultReason denied = one == r   ? FaultReason::read_denied
                                 : one == w ? FaultReason::write_denied
                                            : FaultReason::execute_denied;
      const std::uint32_t cause = one == r ? load_fault : one == w ? store_fault : fetch_fault;
      EXPECT_EQ(path.report(one), (has(c.allowed, one) ? Report{FaultReason::none, 0, 0} : Report{denied, 0, cause}));
      EXPECT_EQ(path.report(one, user), (Report{FaultReason::user_denied, 0, cause}));
    }
    path.leaf(V | A | D | U | c.flags);
    EXPECT_EQ(user_access(path.ask(Access::none).rights), c.allowed);
    for (const Access one : {r, w, x}) EXPECT_EQ(path.ask(one, user).ok(), has(c.allowed, one));
  }
}

TEST_P(RiscVWalk, SupervisorOnUserPages) {
  RiscVPath path(GetParam());
  path.leaf(all_rights | U);
  EXPECT_EQ(path.report(r), (Report{FaultReason::supervisor_access, 0, load_fault}));
  EXPECT_EQ(path.report(w), (Report{FaultReason::supervisor_access, 0, store_fault}));
  path.config.sum = true;
  EXPECT_EQ(path.report(rw), (Report{FaultReason::none, 0, 0}));
  EXPECT_EQ(path.report(x), (Report{FaultReason::supervisor_execute, 0, fetch_fault})) << "not even with SUM";
}

TEST_P(RiscVWalk, MxrMakesExecutablePagesReadable) {
  RiscVPath path(GetParam());
  path.leaf(V | A | D | X);
  EXPECT_EQ(path.report(r), (Report{FaultReason::read_denied, 0, load_fault}));
  path.config.mxr = true;
  EXPECT_TRUE(path.ask(r).ok());
  path.leaf(V | A | D | X | U);
  EXPECT_TRUE(path.ask(r, user).ok());
  EXPECT_EQ(path.report(r).reason, FaultReason::supervisor_access) << "SUM still decides";
  path.config.sum = true;
  EXPECT_TRUE(path.ask(r).ok());
}

TEST_P(RiscVWalk, AccessedAndDirtyWithSvade) {
  RiscVPath path(GetParam());
  path.leaf(all_rights & ~A);
  EXPECT_EQ(path.report(r), (Report{FaultReason::access_flag, 0, load_fault}));
  EXPECT_EQ(path.report(x), (Report{FaultReason::access_flag, 0, fetch_fault}));
  path.leaf(all_rights & ~D);
  EXPECT_TRUE(path.ask(rx).ok());
  EXPECT_EQ(path.report(w), (Report{FaultReason::dirty_flag, 0, store_fault}));
  const AddressSpace space(path.m.memory, path.config, {std::nullopt, true});
  EXPECT_TRUE(space.try_translate(GuestVirtual{path.vaddr()}, r).ok());
  EXPECT_EQ(path.get(0), ppn(page_paddr) | (all_rights & ~D)) << "with Svade nobody but software writes flags";
}

TEST_P(RiscVWalk, AccessedAndDirtyWithSvadu) {
  RiscVPath path(GetParam());
  path.config.svadu = true;
  path.leaf(V | R | W);
  EXPECT_TRUE(path.ask(w).ok());
  EXPECT_EQ(path.get(0), ppn(page_paddr) | V | R | W) << "asking does not update unless told to";
  const AddressSpace space(path.m.memory, path.config, {std::nullopt, true});
  EXPECT_FALSE(space.try_translate(GuestVirtual{path.vaddr()}, x).ok());
  EXPECT_EQ(path.get(0), ppn(page_paddr) | V | R | W);
  EXPECT_TRUE(space.try_translate(GuestVirtual{path.vaddr()}, r).ok());
  EXPECT_EQ(path.get(0), ppn(page_paddr) | V | R | W | A);
  EXPECT_TRUE(space.try_translate(GuestVirtual{path.vaddr()}, w).ok());
  EXPECT_EQ(path.get(0), ppn(page_paddr) | V | R | W | A | D);
}

TEST_P(RiscVWalk, UnreachableTablesAreAccessFaults) {
  for (int level = 1; level < levels_of(GetParam()); ++level) {
    RiscVPath path(GetParam());
    path.set(level, ppn(0x7FFF'F000) | V);
    EXPECT_EQ(path.report(r), (Report{FaultReason::table_unreachable, level - 1, 5}));
    EXPECT_EQ(path.report(w), (Report{FaultReason::table_unreachable, level - 1, 7}));
    EXPECT_EQ(path.report(x), (Report{FaultReason::table_unreachable, level - 1, 1}));
  }
}

TEST_P(RiscVWide, CanonicalAddresses) {
  const RiscVPath path(GetParam());
  const unsigned bits = 12U + 9U * static_cast<unsigned>(path.levels);
  const Report out{FaultReason::not_canonical, path.levels - 1, load_fault};
  EXPECT_EQ(report(path.m, path.config, bit(bits - 1)), out);
  EXPECT_EQ(report(path.m, path.config, ~bit(bits - 1)), out);
  EXPECT_EQ(report(path.m, path.config, path.vaddr() | bit(63)), out);
  EXPECT_EQ(report(path.m, path.config, UINT64_MAX).reason, FaultReason::not_present);
}

TEST_P(RiscVWide, ReservedHighBitsAtEveryLevel) {
  for (int level = 0; level < levels_of(GetParam()); ++level) {
    for (unsigned n = 54; n <= 60; ++n) {
      RiscVPath path(GetParam());
      path.set(level, path.get(level) | bit(n));
      EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, level, load_fault})) << "bit " << n;
    }
  }
}

TEST_P(RiscVWide, MemoryTypes) {
  for (const std::uint64_t type : {bit(61), bit(62)}) {
    RiscVPath path(GetParam());
    path.leaf(all_rights | type);
    EXPECT_TRUE(path.ask().ok());
    path.config.svpbmt = false;
    EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 0, load_fault}));
    RiscVPath pointer(GetParam());
    pointer.set(1, pointer.get(1) | type);
    EXPECT_EQ(pointer.report(), (Report{FaultReason::reserved_bit, 1, load_fault}));
  }
  RiscVPath path(GetParam());
  path.leaf(all_rights | bit(61) | bit(62));
  EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 0, load_fault}));
}

TEST_P(RiscVWide, Svnapot) {
  RiscVPath path(GetParam());
  path.set(0, ppn(0xAB'0000 | 0x8000) | all_rights | N);
  const Translation t = path.ask();
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t.paddr, 0xAB'0000 | (path.vaddr() & 0xFFFF));
  EXPECT_EQ(t.page_size(), 65536U);
  EXPECT_EQ(t.level, 0);
  for (std::uint64_t low = 0; low < 16; ++low) {
    if (low == 8) continue;
    path.set(0, ppn(0xAB'0000 | low << 12) | all_rights | N);
    EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 0, load_fault})) << low;
  }
  path.set(0, ppn(0xAB'8000) | all_rights | N);
  path.config.svnapot = false;
  EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 0, load_fault}));
  path.config.svnapot = true;
  path.set(1, ppn(0x4000'0000 | 0x8000) | all_rights | N);
  EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 1, load_fault}));
  path.set(1, ppn(0x11000) | V | N);
  EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 1, load_fault}));
}

TEST(RiscVSv32, PhysicalAddressesHave34Bits) {
  RiscVPath path(RiscVMode::sv32);
  path.set(0, 0xFFFF'FC00U | all_rights);
  EXPECT_EQ(path.ask().paddr, 0x3'FFFF'F000U | (path.vaddr() & 0xFFF));
  EXPECT_EQ(report(path.m, path.config, path.vaddr() | bit(32)).reason, FaultReason::not_canonical);
}

TEST(RiscVRegisters, SatpSelectsTheMode) {
  EXPECT_EQ(RiscVConfig::from_satp(0x8000'0000'0008'1234).mode, RiscVMode::sv39);
  EXPECT_EQ(RiscVConfig::from_satp(0x8000'0000'0008'1234).root, 0x8123'4000U);
  EXPECT_EQ(RiscVConfig::from_satp(0x9FFF'F000'0000'0001).mode, RiscVMode::sv48);
  EXPECT_EQ(RiscVConfig::from_satp(0x9FFF'F000'0000'0001).root, 0x1000U) << "the ASID is no address";
  EXPECT_EQ(RiscVConfig::from_satp(0xA000'0000'0000'0001).mode, RiscVMode::sv57);
  EXPECT_EQ(RiscVConfig::from_satp(0x8040'0001, 32).mode, RiscVMode::sv32);
  EXPECT_EQ(RiscVConfig::from_satp(0x8040'0001, 32).root, 0x1000U);
  EXPECT_THROW(RiscVConfig::from_satp(0x0000'0000'0000'0001), InvalidConfig);
  EXPECT_THROW(RiscVConfig::from_satp(0xB000'0000'0000'0001), InvalidConfig);
  EXPECT_THROW(RiscVConfig::from_satp(1, 32), InvalidConfig);
  EXPECT_THROW(RiscVConfig::from_satp(1, 16), InvalidConfig);
}

TEST(RiscVConfig, NonsenseIsRefused) {
  const Machine m;
  RiscVConfig config;
  config.root = 0x1010;
  EXPECT_THROW(AddressSpace(m.memory, config), InvalidConfig);
  config.root = bit(56);
  EXPECT_THROW(AddressSpace(m.memory, config), InvalidConfig);
  config.root = bit(34);
  config.mode = RiscVMode::sv32;
  EXPECT_THROW(AddressSpace(m.memory, config), InvalidConfig);
  config.root = 0;
  config.mode = static_cast<RiscVMode>(3);
  EXPECT_THROW(AddressSpace(m.memory, config), InvalidConfig);
}

}  // namespace
}  // namespace vm::mem::paging
