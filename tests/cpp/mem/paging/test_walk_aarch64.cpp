// Hand-made AArch64 tables against the Arm ARM: D8.2 (walks and start levels), D8.3 (descriptors), D8.4 (permissions),
// D8.5 (flags), and the fault status codes of ESR_ELx.

#include <gtest/gtest.h>

#include <string>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

constexpr std::uint64_t EL0 = std::uint64_t{1} << 6;
constexpr std::uint64_t RO = std::uint64_t{1} << 7;
constexpr std::uint64_t AF = std::uint64_t{1} << 10;
constexpr std::uint64_t DBM = std::uint64_t{1} << 51;
constexpr std::uint64_t PXN = std::uint64_t{1} << 53;
constexpr std::uint64_t UXN = std::uint64_t{1} << 54;
constexpr std::uint64_t ha = std::uint64_t{1} << 39;
constexpr std::uint64_t hd = std::uint64_t{1} << 40;
constexpr std::uint64_t ds = std::uint64_t{1} << 59;

// Fault status codes (level in the low two bits).
constexpr std::uint32_t address_size = 0x00;
constexpr std::uint32_t translation = 0x04;
constexpr std::uint32_t access_flag = 0x08;
constexpr std::uint32_t permission = 0x0C;
constexpr std::uint32_t external_abort = 0x14;

struct Geometry {
  std::uint64_t granule;
  unsigned t0sz;
  bool lpa2;
  int levels;  ///< tables on the way to a page
};

unsigned shift_of(std::uint64_t granule) { return granule == 4096 ? 12 : granule == 16384 ? 14 : 16; }

std::uint64_t tcr_of(std::uint64_t granule, unsigned t0sz, unsigned t1sz, unsigned ips) {
  const std::uint64_t frames = AArch64Config::default_tcr(granule) & (std::uint64_t{3} << 14 | std::uint64_t{3} << 30);
  return frames | t0sz | std::uint64_t{t1sz} << 16 | std::uint64_t{ips} << 32;
}

/// One path of tables to one page at `vaddr`; level 0 holds the page's descriptor (Arm's level 3).
class A64Path {
 public:
  explicit A64Path(const Geometry& g) : levels(g.levels), page_shift_(shift_of(g.granule)) {
    config.granule = g.granule;
    config.tcr = tcr_of(g.granule, g.t0sz, g.t0sz, g.lpa2 ? 6 : 5) | (g.lpa2 ? ds : 0);
    config.ttbr0 = table(levels - 1);
    top_bits_ = 64 - g.t0sz - shift(levels - 1);
    vaddr = 0x0FED'CBA9'8765'4321 & (bit(64 - g.t0sz) - 1);
    for (int level = levels - 1; level > 0; --level) set(level, table(level - 1) | 3);
    page(EL0 | AF);
  }

  unsigned shift(int level) const { return page_shift_ + static_cast<unsigned>(level) * (page_shift_ - 3); }
  std::uint64_t entry_at(int level) const {
    const unsigned bits = level == levels - 1 ? top_bits_ : page_shift_ - 3;
    return table(level) + (vaddr >> shift(level) & (bit(bits) - 1)) * 8;
  }
  std::uint64_t get(int level) const { return m.get(entry_at(level)); }
  void set(int level, std::uint64_t entry) { m.put(entry_at(level), entry); }
  void add(int level, std::uint64_t bits) { set(level, get(level) | bits); }
  void page(std::uint64_t attributes) { set(0, page_paddr | 3 | attributes); }
  std::uint64_t offset(int level) const { return vaddr & (bit(shift(level)) - 1); }

  Translation ask(Access access = r, Privilege privilege = supervisor) const {
    return test::ask(m, config, vaddr, access, privilege);
  }
  Report report(Access access = r, Privilege privilege = supervisor) const {
    return test::report(m, config, vaddr, access, privilege);
  }
  Access rights(Privilege privilege) const { return access_of(ask(Access::none).rights, privilege); }

  static constexpr std::uint64_t page_paddr = 0xAB0000;
  Machine m;
  AArch64Config config;
  int levels;
  std::uint64_t vaddr;

 private:
  static std::uint64_t table(int level) { return 0x20000 + 0x10000 * static_cast<std::uint64_t>(level); }
  unsigned page_shift_;
  unsigned top_bits_ = 0;
};

class A64Walk : public testing::TestWithParam<Geometry> {};
INSTANTIATE_TEST_SUITE_P(Granules, A64Walk,
                         testing::Values(Geometry{4096, 16, false, 4}, Geometry{4096, 25, false, 3},
                                         Geometry{4096, 33, false, 3}, Geometry{4096, 34, false, 2},
                                         Geometry{4096, 48, false, 1}, Geometry{4096, 12, true, 5},
                                         Geometry{4096, 16, true, 4}, Geometry{16384, 16, false, 4},
                                         Geometry{16384, 17, false, 3}, Geometry{16384, 28, false, 2},
                                         Geometry{16384, 48, false, 1}, Geometry{16384, 12, true, 4},
                                         Geometry{65536, 12, false, 3}, Geometry{65536, 16, false, 3},
                                         Geometry{65536, 22, false, 2}, Geometry{65536, 47, false, 1}),
                         [](const auto& geometry) {
                           return std::to_string(geometry.param.granule >> 10) + "K_T0SZ" +
                                  std::to_string(geometry.param.t0sz) + (geometry.param.lpa2 ? "_LPA2" : "");
                         });

std::uint32_t code(std::uint32_t base, int level) {
  if (level == 4) return base == translation ? 0x2B : base == address_size ? 0x29 : 0x13;  // Arm's level -1
  return base + static_cast<std::uint32_t>(3 - level);
}

TEST_P(A64Walk, Page) {
  const A64Path path(GetParam());
  const Translation t = path.ask();
  ASSERT_TRUE(t.ok()) << describe(t.reason) << " at level " << int{t.level};
  EXPECT_EQ(t.paddr, A64Path::page_paddr | path.offset(0));
  EXPECT_EQ(t.page_size(), GetParam().granule);
  EXPECT_EQ(t.level, 0);
}

TEST_P(A64Walk, BlocksWhereTheArchitectureHasThem) {
  const Geometry& g = GetParam();
  for (int level = 1; level < g.levels; ++level) {
    A64Path path(g);
    const std::uint64_t base = level < 3 || g.lpa2 ? bit(path.shift(level)) : 0;
    path.set(level, base | 1 | AF);
    // Arm's level 2 always; level 1 for 4K, for 16K with LPA2, for 64K with 52-bit addresses; level 0 for 4K with LPA2.
    const bool exists =
        level == 1 || (level == 2 && (g.granule != 16384 || g.lpa2)) || (level == 3 && g.granule == 4096 && g.lpa2);
    if (!exists) {
      EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, level, code(translation, level)}));
      continue;
    }
    const Translation t = path.ask();
    ASSERT_TRUE(t.ok()) << describe(t.reason) << " at level " << level;
    EXPECT_EQ(t.paddr, base | path.offset(level));
    EXPECT_EQ(t.page_size(), bit(path.shift(level)));
    EXPECT_EQ(t.level, level);
  }
}

TEST_P(A64Walk, InvalidAtEveryLevel) {
  for (int level = 0; level < GetParam().levels; ++level) {
    A64Path path(GetParam());
    path.set(level, path.get(level) & ~std::uint64_t{1});
    EXPECT_EQ(path.report(w, user), (Report{FaultReason::not_present, level, code(translation, level)}));
  }
}

TEST_P(A64Walk, TheBlockEncodingInTheLastTableIsReserved) {
  A64Path path(GetParam());
  path.set(0, path.get(0) & ~std::uint64_t{2});
  EXPECT_EQ(path.report(), (Report{FaultReason::reserved_bit, 0, code(translation, 0)}));
}

TEST_P(A64Walk, OutputAddressesBeyondTheConfiguredSize) {
  for (int level = 0; level < GetParam().levels; ++level) {
    A64Path path(GetParam());
    path.config.tcr = (path.config.tcr & ~(std::uint64_t{7} << 32)) | std::uint64_t{1} << 32;  // IPS: 36 bits
    EXPECT_TRUE(path.ask().ok());
    const std::uint64_t good = path.get(level);
    for (const unsigned n : {36U, 40U, 47U}) {
      path.set(level, good | bit(n));
      EXPECT_EQ(path.report(), (Report{FaultReason::address_size, level, code(address_size, level)})) << "bit " << n;
    }
  }
}

TEST_P(A64Walk, UnreachableTablesAreExternalAborts) {
  for (int level = 1; level < GetParam().levels; ++level) {
    A64Path path(GetParam());
    path.set(level, 0x7FFF'0000 | 3);
    EXPECT_EQ(path.report(), (Report{FaultReason::table_unreachable, level - 1, code(external_abort, level - 1)}));
  }
  A64Path path(GetParam());
  path.config.ttbr0 = 0x7FFF'0000;
  EXPECT_EQ(path.report(),
            (Report{FaultReason::table_unreachable, path.levels - 1, code(external_abort, path.levels - 1)}));
}

TEST_P(A64Walk, AddressesOutsideTheHalvesFaultAtLevel0) {
  const A64Path path(GetParam());
  const unsigned bits = 64 - GetParam().t0sz;
  const Report out{FaultReason::not_canonical, path.levels - 1, translation};
  EXPECT_EQ(report(path.m, path.config, bit(bits)), out);
  EXPECT_EQ(report(path.m, path.config, path.vaddr | bit(63)), out);
  EXPECT_EQ(report(path.m, path.config, ~bit(bits)), out);
  // TTBR1 is 0: an empty table.
  EXPECT_EQ(report(path.m, path.config, UINT64_MAX).reason, FaultReason::not_present);
}

TEST_P(A64Walk, UpperHalfStartsAtTtbr1) {
  A64Path path(GetParam());
  std::swap(path.config.ttbr0, path.config.ttbr1);
  const std::uint64_t vaddr = path.vaddr | ~(bit(64 - GetParam().t0sz) - 1);
  EXPECT_EQ(ask(path.m, path.config, vaddr).paddr, A64Path::page_paddr | path.offset(0));
  EXPECT_EQ(path.report().reason, FaultReason::not_present);
}

TEST_P(A64Walk, HierarchicalBitsRestrictEverythingBelow) {
  for (int level = 1; level < GetParam().levels; ++level) {
    A64Path path(GetParam());
    path.page(AF | EL0 | RO);
    EXPECT_EQ(path.rights(supervisor), rx);
    EXPECT_EQ(path.rights(user), rx);
    path.add(level, bit(59));  // PXNTable
    EXPECT_EQ(path.rights(supervisor), r);
    EXPECT_EQ(path.rights(user), rx);
    path.add(level, bit(60));  // UXNTable
    EXPECT_EQ(path.rights(user), r);
    path.page(AF | EL0);
    path.add(level, bit(62));  // APTable[1]: no writes
    EXPECT_EQ(path.rights(supervisor), r);
    EXPECT_EQ(path.rights(user), r);
    path.add(level, bit(61));  // APTable[0]: nothing for EL0
    EXPECT_EQ(path.rights(user), Access::none);
    EXPECT_EQ(path.report(r, user), (Report{FaultReason::user_denied, 0, code(permission, 0)}));
    path.config.tcr |= bit(41) | bit(42);  // HPD0, HPD1
    EXPECT_EQ(path.rights(user), rwx);
  }
}

Geometry ordinary() { return {4096, 16, false, 4}; }

TEST(A64Rights, AccessPermissions) {
  const struct {
    std::uint64_t attributes;
    Access privileged;
    Access unprivileged;
  } cases[] = {
      {0, rwx, x},         // AP 00
      {EL0, rw, rwx},      // AP 01: what EL0 can write, EL1 never executes
      {RO, rx, x},         // AP 10
      {RO | EL0, rx, rx},  // AP 11
      {PXN, rw, x},
      {UXN, rwx, Access::none},
      {EL0 | UXN, rw, rw},
      {RO | EL0 | PXN, r, rx},
      {RO | EL0 | UXN, rx, r},
      {RO | PXN | UXN, r, Access::none},
      {DBM | RO, rx, x},  // without TCR.HD, DBM means nothing
  };
  for (const auto& c : cases) {
    A64Path path(ordinary());
    path.page(AF | c.attributes);
    EXPECT_EQ(path.rights(supervisor), c.privileged) << hex(c.attributes);
    EXPECT_EQ(path.rights(user), c.unprivileged) << hex(c.attributes);
    for (const Privilege who : {supervisor, user}) {
      for (const Access one : {r, w, x}) {
        const bool allowed = has(who == user ? c.unprivileged : c.privileged, one);
        const Report got = path.report(one, who);
        EXPECT_EQ(got.reason == FaultReason::none, allowed) << hex(c.attributes);
        EXPECT_EQ(got.error_code, allowed ? 0 : permission + 3);
      }
    }
  }
}

TEST(A64Rights, ReasonsOfPermissionFaults) {
  A64Path path(ordinary());
  path.page(AF | RO | PXN | UXN);
  EXPECT_EQ(path.report(r, user).reason, FaultReason::user_denied);
  EXPECT_EQ(path.report(x, user).reason, FaultReason::execute_denied);
  EXPECT_EQ(path.report(w).reason, FaultReason::write_denied);
  EXPECT_EQ(path.report(x).reason, FaultReason::execute_denied);
  path.set(1, 0x4000'0000 | AF | RO | 1);
  EXPECT_EQ(path.report(w), (Report{FaultReason::write_denied, 1, permission + 2}));
  path.set(2, 0x4000'0000 | AF | RO | 1);
  EXPECT_EQ(path.report(w), (Report{FaultReason::write_denied, 2, permission + 1}));
}

TEST(A64Rights, WriteImpliesExecuteNever) {
  A64Path path(ordinary());
  path.config.wxn = true;
  path.page(AF);
  EXPECT_EQ(path.rights(supervisor), rw);
  path.page(AF | EL0);
  EXPECT_EQ(path.rights(user), rw);
  path.page(AF | EL0 | RO);
  EXPECT_EQ(path.rights(user), rx);
  EXPECT_EQ(path.rights(supervisor), rx);
}

TEST(A64Rights, PrivilegedAccessNever) {
  A64Path path(ordinary());
  path.config.pan = true;
  path.page(AF | EL0 | RO);
  EXPECT_EQ(path.report(r), (Report{FaultReason::supervisor_access, 0, permission + 3}));
  EXPECT_TRUE(path.ask(x).ok()) << "PAN is about data";
  EXPECT_TRUE(path.ask(r, user).ok());
  path.page(AF);
  EXPECT_TRUE(path.ask(rw).ok());
}

TEST(A64Flags, AccessFlagFaultsComeBeforePermissions) {
  A64Path path(ordinary());
  path.page(RO);
  EXPECT_EQ(path.report(w), (Report{FaultReason::access_flag, 0, access_flag + 3}));
  EXPECT_TRUE(path.ask(Access::none).ok());
  path.set(1, 0x4000'0000 | 1);
  EXPECT_EQ(path.report(r), (Report{FaultReason::access_flag, 1, access_flag + 2}));
}

TEST(A64Flags, HardwareUpdates) {
  A64Path path(ordinary());
  path.config.tcr |= ha;
  path.page(RO | DBM);
  EXPECT_TRUE(path.ask(r).ok());
  EXPECT_EQ(path.report(w).reason, FaultReason::write_denied) << "DBM needs HD";
  path.config.tcr |= hd;
  EXPECT_TRUE(path.ask(w).ok());
  EXPECT_EQ(path.get(0), A64Path::page_paddr | 3 | RO | DBM) << "asking does not update unless told to";
  const AddressSpace space(path.m.memory, path.config, {std::nullopt, true});
  EXPECT_TRUE(space.try_translate(GuestVirtual{path.vaddr}, r).ok());
  EXPECT_EQ(path.get(0), A64Path::page_paddr | 3 | RO | DBM | AF);
  EXPECT_TRUE(space.try_translate(GuestVirtual{path.vaddr}, w).ok());
  EXPECT_EQ(path.get(0), A64Path::page_paddr | 3 | DBM | AF) << "dirty: writable";
  path.page(RO | AF);
  EXPECT_FALSE(space.try_translate(GuestVirtual{path.vaddr}, w).ok());
}

TEST(A64Flags, HdWithoutHaDoesNothing) {
  A64Path path(ordinary());
  path.config.tcr |= hd;
  path.page(AF | RO | DBM);
  EXPECT_EQ(path.report(w).reason, FaultReason::write_denied);
}

TEST(A64Addresses, FiftyTwoBitsWith64KGranules) {
  A64Path path({65536, 16, false, 3});
  path.config.tcr = tcr_of(65536, 16, 16, 6);
  path.page(AF | std::uint64_t{0xC} << 12);
  EXPECT_EQ(path.ask().paddr, std::uint64_t{0xC} << 48 | A64Path::page_paddr | path.offset(0));
  path.config.tcr = tcr_of(65536, 16, 16, 5);
  EXPECT_EQ(path.report(), (Report{FaultReason::address_size, 0, 3}))
      << "the processor has the bits, TCR_EL1.IPS forbids their use";
  path.config.physical_bits = 48;  // a processor without FEAT_LPA does not look at them
  EXPECT_EQ(path.ask().paddr, A64Path::page_paddr | path.offset(0));
  path.set(1, std::uint64_t{1} << 42 | AF | 1);
  EXPECT_TRUE(path.ask().ok());
  path.set(2, AF | 1);
  EXPECT_EQ(path.report().reason, FaultReason::reserved_bit) << "nor does it have 4 TiB blocks";
}

TEST(A64Addresses, FiftyTwoBitsWithLpa2) {
  for (const std::uint64_t granule : {4096U, 16384U}) {
    A64Path path({granule, 16, true, 4});
    path.page(AF | std::uint64_t{3} << 8 | std::uint64_t{2} << 48);
    EXPECT_EQ(path.ask().paddr, std::uint64_t{0xE} << 48 | A64Path::page_paddr | path.offset(0));
    path.config.tcr = (path.config.tcr & ~(std::uint64_t{7} << 32)) | std::uint64_t{5} << 32;
    EXPECT_EQ(path.report(), (Report{FaultReason::address_size, 0, 3}));
    path.page(AF | std::uint64_t{1} << 9);
    EXPECT_EQ(path.report(), (Report{FaultReason::address_size, 0, 3}));
  }
}

TEST(A64Addresses, BaseRegisterWith52Bits) {
  A64Path path({65536, 16, false, 3});
  path.config.tcr = tcr_of(65536, 16, 16, 6);
  path.config.ttbr0 |= std::uint64_t{0x8} << 2 | 1 | std::uint64_t{0xABCD} << 48;  // 51:48, CnP, ASID
  EXPECT_EQ(path.report().reason, FaultReason::table_unreachable);
  path.config.ttbr0 &= ~(std::uint64_t{0xF} << 2);
  EXPECT_TRUE(path.ask().ok());
}

TEST(A64Addresses, TopByteIgnore) {
  A64Path path(ordinary());
  path.config.tcr |= bit(37);
  path.vaddr |= std::uint64_t{0xA5} << 56;
  EXPECT_TRUE(path.ask().ok());
  path.vaddr |= bit(50);
  EXPECT_EQ(path.report().reason, FaultReason::not_canonical);
}

TEST(A64Config, DisabledHalves) {
  A64Path path(ordinary());
  path.config.tcr |= bit(7);
  EXPECT_EQ(path.report(), (Report{FaultReason::walk_disabled, 0, translation}));
}

TEST(A64Config, NonsenseIsRefused) {
  const Machine m;
  const auto make = [&](const AArch64Config& config) { AddressSpace(m.memory, config); };
  AArch64Config config;
  config.tcr = AArch64Config::default_tcr(4096);
  EXPECT_NO_THROW(make(config));
  config.granule = 16384;
  EXPECT_THROW(make(config), InvalidConfig);
  config.granule = 8192;
  EXPECT_THROW(make(config), InvalidConfig);
  config.granule = 4096;
  config.tcr = tcr_of(4096, 15, 16, 5);
  EXPECT_THROW(make(config), InvalidConfig);
  config.tcr = tcr_of(4096, 49, 16, 5);
  EXPECT_THROW(make(config), InvalidConfig);
  config.tcr = tcr_of(4096, 16, 16, 7);
  EXPECT_THROW(make(config), InvalidConfig);
  config.tcr = tcr_of(4096, 16, 16, 0);
  config.ttbr0 = bit(32);
  EXPECT_THROW(make(config), InvalidConfig);
  config.ttbr0 = 0;
  config.tcr = (AArch64Config::default_tcr(4096) & ~(std::uint64_t{3} << 30)) | std::uint64_t{1} << 30;
  EXPECT_THROW(make(config), NotSupported) << "a 16K upper half beside a 4K lower half";
  config.tcr |= bit(23);
  EXPECT_NO_THROW(make(config)) << "the upper half is disabled";
  config.tcr = AArch64Config::default_tcr(4096) | bit(41);
  EXPECT_THROW(make(config), NotSupported) << "HPD0 differs from HPD1";
}

}  // namespace
}  // namespace vm::mem::paging
