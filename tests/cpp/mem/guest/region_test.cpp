// RegionTable: finding, ranges over borders, holes, and what it refuses.
#include "vm/mem/guest/region.hpp"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "support.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {
namespace {

using test::mentions;
using test::message_of;

/// Stands behind the regions whose bytes nobody looks at.
std::array<std::byte, 0x2000> some_host;

Region region(std::uint64_t base, std::uint64_t size, std::byte* host = some_host.data(), bool writable = true) {
  Region r;
  r.base = base;
  r.size = size;
  r.host = host;
  r.writable = writable;
  r.name = "test";
  return r;
}

TEST(RegionTable, EmptyHoldsNothing) {
  const RegionTable table;
  EXPECT_EQ(table.find(0), nullptr);
  EXPECT_EQ(table.at(0, 0), nullptr);
  EXPECT_TRUE(mentions(message_of<OutOfRange>([&] { table.require(5, 1, "read"); }),
                       {"read of 1 bytes at 0x5", "0x0-0xffffffffffffffff"}));
}

TEST(RegionTable, FindsBothEndsOfEveryRegionAndNothingBetween) {
  std::array<std::byte, 64> host{};
  const RegionTable table({region(0x3000, 16, &host[32]), region(0x1000, 16, &host[0]), region(0x1010, 16, &host[16])});
  EXPECT_EQ(table.find(0xFFF), nullptr);
  EXPECT_EQ(table.at(0x1000, 1), &host[0]);
  EXPECT_EQ(table.at(0x100F, 1), &host[15]);
  EXPECT_EQ(table.at(0x1010, 16), &host[16]);
  EXPECT_EQ(table.find(0x1020), nullptr);
  EXPECT_EQ(table.find(0x2FFF), nullptr);
  EXPECT_EQ(table.at(0x300F, 1), &host[47]);
  EXPECT_EQ(table.find(0x3010), nullptr);
  EXPECT_EQ(table.find(UINT64_MAX), nullptr);
}

TEST(RegionTable, AtNeedsOneRegionForAllBytes) {
  std::array<std::byte, 32> host{};
  const RegionTable table({region(0x1000, 16, &host[0]), region(0x1010, 16, &host[16])});
  EXPECT_EQ(table.at(0x1008, 8), &host[8]);
  EXPECT_EQ(table.at(0x1008, 9), nullptr);
  EXPECT_EQ(table.at(0x1008, UINT64_MAX), nullptr);
}

TEST(RegionTable, WritableAtRefusesReadOnly) {
  std::array<std::byte, 32> host{};
  const RegionTable table({region(0, 16, &host[0], false), region(16, 16, &host[16])});
  EXPECT_EQ(table.writable_at(0, 1), nullptr);
  EXPECT_EQ(table.at(0, 1), &host[0]);
  EXPECT_EQ(table.writable_at(16, 16), &host[16]);
}

TEST(RegionTable, ReachesTheLastAddress) {
  std::array<std::byte, 16> host{};
  const RegionTable table({region(UINT64_MAX - 15, 16, host.data())});
  EXPECT_EQ(table.at(UINT64_MAX, 1), &host[15]);
  EXPECT_EQ(table.at(UINT64_MAX, 2), nullptr);
  EXPECT_EQ(table.find(0), nullptr);
  EXPECT_NO_THROW(table.require(UINT64_MAX - 15, 16, "read"));
  EXPECT_TRUE(mentions(message_of<OutOfRange>([&] { table.require(UINT64_MAX, 2, "read"); }), {"beyond the last"}));
}

TEST(RegionTable, FindAgreesWithALinearSearch) {
  std::mt19937_64 random(11);
  std::vector<Region> regions;
  std::uint64_t next = 0;
  for (int i = 0; i < 100; ++i) {
    next += random() % 3 * 0x1000;
    const std::uint64_t size = 1 + random() % 0x2000;
    regions.push_back(region(next, size));
    next += size;
  }
  const RegionTable table(regions);
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t paddr = random() % (next + 0x1000);
    const Region* expected = nullptr;
    for (const Region& r : table.regions()) {
      if (r.base <= paddr && paddr <= r.last()) expected = &r;
    }
    ASSERT_EQ(table.find(paddr), expected) << paddr;
  }
}

TEST(RegionTable, RefusesNonsense) {
  EXPECT_TRUE(mentions(message_of<InvalidConfig>([] { RegionTable table({region(0x1000, 0)}); }), {"0x1000", "empty"}));
  EXPECT_TRUE(mentions(message_of<InvalidConfig>([] { RegionTable table({region(UINT64_MAX, 2)}); }), {"beyond"}));
  EXPECT_TRUE(mentions(message_of<InvalidConfig>([] {
                         RegionTable table({region(0x1000, 0x10), region(0x100F, 1)});
                       }),
                       {"0x1000-0x100f", "0x100f-0x100f", "overlap"}));
}

TEST(RegionTable, RequireNamesTheWholeHole) {
  const RegionTable table({region(0x0, 0x1000), region(0x1000, 0x1000), region(0x5000, 0x1000)});
  EXPECT_NO_THROW(table.require(0x10, 0x1FF0, "read"));
  EXPECT_NO_THROW(table.require(0x3000, 0, "read"));
  const std::string message = message_of<OutOfRange>([&] { table.require(0x800, 0x5000, "read"); });
  EXPECT_TRUE(mentions(message, {"read of 20480 bytes at 0x800", "reaches 0x2000", "0x2000-0x4fff"}));
  EXPECT_TRUE(
      mentions(message_of<OutOfRange>([&] { table.require(0x9000, 1, "read"); }), {"0x6000-0xffffffffffffffff"}));
  try {
    table.require(0x800, 0x5000, "read");
  } catch (const OutOfRange& error) {
    EXPECT_EQ(error.address(), 0x800U);
    EXPECT_EQ(error.size(), 0x5000U);
  }
}

TEST(RegionTable, RequireWritableNamesTheReadOnlyRegion) {
  const RegionTable table(
      {region(0x0, 0x1000), region(0x1000, 0x1000, some_host.data(), false), region(0x2000, 0x1000)});
  EXPECT_NO_THROW(table.require_writable(0x800, 0x800, "write"));
  EXPECT_NO_THROW(table.require_writable(0x1800, 0, "write"));
  EXPECT_TRUE(mentions(message_of<AccessViolation>([&] { table.require_writable(0x800, 0x1800, "write"); }),
                       {"0x1000-0x1fff", "read-only"}));
  // A hole is told before a read-only region: the range as a whole does not exist.
  EXPECT_THROW(table.require_writable(0x1000, 0x9000, "write"), OutOfRange);
}

}  // namespace
}  // namespace vm::mem
