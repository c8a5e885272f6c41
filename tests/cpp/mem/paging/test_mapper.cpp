// map, unmap and protect over every format: what was asked, all of it or nothing.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

constexpr std::uint64_t memory_size = std::uint64_t{4} << 20;

MapRequest request(std::uint64_t vaddr, std::uint64_t paddr, std::uint64_t size, Access access = rwx,
                   bool user_page = true, std::optional<std::uint64_t> page_size = {}) {
  return {vaddr, paddr, size, access, user_page, page_size};
}

/// The message of the exception of type `Error` that `call` throws.
template <class Error>
std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

class MapperTest : public testing::TestWithParam<Layout> {
 protected:
  Machine m{memory_size};
  Layout layout = GetParam();
  AddressSpace space{m.memory, layout.config};
  std::uint64_t page = layout.page_sizes[0];
  std::uint64_t large = layout.page_sizes[1];
  std::uint64_t base = layout.base;

  Translation look_up(std::uint64_t vaddr) const { return space.try_translate(GuestVirtual{vaddr}, Access::none); }
  void expect_mapped(std::uint64_t vaddr, std::uint64_t paddr, std::uint64_t page_size) const {
    for (const std::uint64_t offset : {std::uint64_t{0}, page - 1, page_size - 1}) {
      const Translation t = look_up(vaddr + offset);
      EXPECT_TRUE(t.ok()) << hex(vaddr + offset) << ": " << describe(t.reason);
      EXPECT_EQ(t.paddr, paddr + offset) << hex(vaddr + offset);
      EXPECT_EQ(t.page_size(), page_size) << hex(vaddr + offset);
    }
  }
  /// `call` throws `Error`, memory is what it was, and so is the supply of frames.
  template <class Error>
  std::string expect_refused(const std::function<void()>& call) {
    const std::vector<std::uint8_t> before = m.bytes();
    const std::string message = message_of<Error>(call);
    EXPECT_EQ(m.bytes() == before, true) << "memory changed: " << message;
    return message;
  }
};

INSTANTIATE_TEST_SUITE_P(Formats, MapperTest, testing::ValuesIn(layouts()),
                         [](const auto& layout) { return layout.param.name; });

TEST_P(MapperTest, ZeroedRootIsAnEmptyAddressSpace) {
  EXPECT_EQ(look_up(base).reason, FaultReason::not_present);
  EXPECT_TRUE(space.mappings().empty());
  EXPECT_EQ(space.unmap(base, 4 * page), 0U);
}

TEST_P(MapperTest, MapsPagesAndTakesTablesFromTheTop) {
  space.map(request(base + page, 0x30'0000, 4 * page));
  for (std::uint64_t i = 0; i < 4; ++i) expect_mapped(base + (i + 1) * page, 0x30'0000 + i * page, page);
  EXPECT_FALSE(look_up(base).ok());
  EXPECT_FALSE(look_up(base + 5 * page).ok());
  const std::vector<std::uint8_t> bytes = m.bytes();
  const auto lowest = std::find_if(bytes.begin() + 0x40000, bytes.end(), [](std::uint8_t byte) { return byte != 0; });
  const auto lowest_frame = static_cast<std::uint64_t>(lowest - bytes.begin()) / page * page;
  const std::uint64_t tables = memory_size - lowest_frame;
  EXPECT_GT(tables, 0U);
  EXPECT_LE(tables, 4 * page) << "one frame for each level below the top, without gaps";
}

TEST_P(MapperTest, PicksTheLargestPagesThatFit) {
  const std::uint64_t paddr = 2 * large - page;
  space.map(request(base + large - page, paddr, large + 2 * page));
  expect_mapped(base + large - page, paddr, page);
  expect_mapped(base + large, paddr + page, large);
  expect_mapped(base + 2 * large, paddr + page + large, page);
}

TEST_P(MapperTest, MapsTheLargestPageOfTheFormat) {
  const std::uint64_t largest = layout.page_sizes.back();
  const std::uint64_t vaddr = base & ~(largest - 1);
  const std::uint64_t paddr = layout.page_sizes.size() > 3 ? 0 : largest;
  space.map(request(vaddr, paddr, largest));
  expect_mapped(vaddr, paddr, largest);
  EXPECT_EQ(space.mappings().size(), 1U);
  EXPECT_EQ(space.unmap(vaddr, largest), largest);
  EXPECT_FALSE(look_up(vaddr).ok());
}

TEST_P(MapperTest, ShiftedPhysicalAddressesForceSmallPages) {
  space.map(request(base, large + page, large));
  expect_mapped(base, large + page, page);
  expect_mapped(base + large - page, 2 * large, page);
}

TEST_P(MapperTest, ExactPageSizes) {
  space.map(request(base, 0, large, rwx, true, page));
  expect_mapped(base, 0, page);
  space.map(request(base + large, 0, 2 * large, rwx, true, large));
  expect_mapped(base + 2 * large, large, large);
  EXPECT_NE(expect_refused<InvalidConfig>([&] {
              space.map(request(base + 4 * large, 0, page, rwx, true, 3 * page));
            }).find("has pages of"),
            std::string::npos);
  expect_refused<InvalidConfig>([&] { space.map(request(base + 4 * large + page, 0, large, rwx, true, large)); });
  expect_refused<InvalidConfig>([&] { space.map(request(base + 4 * large, page, large, rwx, true, large)); });
  expect_refused<InvalidConfig>([&] { space.map(request(base + 4 * large, 0, large + page, rwx, true, large)); });
}

TEST_P(MapperTest, NonsenseIsRefusedAndChangesNothing) {
  const auto refuse = [&](const MapRequest& bad) { expect_refused<InvalidConfig>([&] { space.map(bad); }); };
  refuse(request(base, 0, 0));
  refuse(request(base + 1, 0, page));
  refuse(request(base, 1, page));
  refuse(request(base, 0, page + 1));
  refuse(request(base, 0, UINT64_MAX - page + 1));         // leaves the virtual range
  refuse(request(base, UINT64_MAX - page + 1, 2 * page));  // the physical range wraps
  refuse(request(base, std::uint64_t{1} << 60, page));     // no format has such addresses
  refuse(request(base, 0, page, Access::none));
  refuse(request(std::uint64_t{1} << 62, 0, page));
  expect_refused<InvalidConfig>([&] { space.unmap(base + 1, page); });
  expect_refused<InvalidConfig>([&] { space.unmap(base, 0); });
  expect_refused<InvalidConfig>([&] { space.unmap(std::uint64_t{1} << 62, page); });
  expect_refused<InvalidConfig>([&] { space.protect(base, page - 1, r, {}); });
  expect_refused<InvalidConfig>([&] { space.protect(base, page, Access::none, {}); });
}

TEST_P(MapperTest, ConflictsNameTheFirstMappedAddressAndChangeNothing) {
  space.map(request(base + large + 3 * page, 0, page));
  const auto conflict = [&](const MapRequest& bad) {
    const std::string message = expect_refused<InvalidConfig>([&] { space.map(bad); });
    EXPECT_EQ(message.find(hex(base + large + 3 * page) + " is already mapped"), 0U) << message;
  };
  conflict(request(base, 0x1000'0000, 2 * large));                      // by pages next to it
  conflict(request(base, page, 2 * large));                             // by small pages over it
  conflict(request(base + large, 4 * large, large, rwx, true, large));  // by a large page over its table
  space.map(request(base + 4 * large, 0, large));
  const std::string message =
      expect_refused<InvalidConfig>([&] { space.map(request(base + 4 * large + page, 0, page)); });
  EXPECT_EQ(message.find(hex(base + 4 * large + page) + " is already mapped, to " + hex(page)), 0U) << message;
}

TEST_P(MapperTest, AnEmptyTableMakesRoomForALargePage) {
  space.map(request(base, 0, page));
  space.map(request(base + page, 0, page));  // keeps the upper tables when the first goes
  EXPECT_EQ(space.unmap(base, 2 * page), 2 * page);
  space.map(request(base, large, large));
  expect_mapped(base, large, large);
}

TEST_P(MapperTest, RightsAreWhatWasAskedWhereTheFormatCanSayIt) {
  const bool two_levels = layout.name == "x86_2";
  const bool riscv = layout.name[0] == 's';
  std::uint64_t vaddr = base;
  for (const bool user_page : {false, true}) {
    for (const Access access : {r, rw, rx, rwx, x, w}) {
      space.map(request(vaddr, 0, page, access, user_page));
      Access expected = access;
      if (!riscv || has(access, w)) expected |= r;
      if (two_levels) expected |= x;
      const Translation t = look_up(vaddr);
      EXPECT_EQ(user_page ? user_access(t.rights) : supervisor_access(t.rights), expected) << to_string(access);
      EXPECT_EQ(user_access(t.rights) == Access::none, !user_page);
      EXPECT_TRUE(space.try_translate(GuestVirtual{vaddr}, access, user_page ? user : supervisor).ok());
      vaddr += page;
    }
  }
}

TEST_P(MapperTest, UnmapSplitsPagesAndReturnsTheBytes) {
  space.map(request(base, large, 2 * large, rw, false));
  EXPECT_EQ(space.unmap(base + 3 * page, 2 * page), 2 * page);
  expect_mapped(base + 2 * page, large + 2 * page, page);
  expect_mapped(base + 5 * page, large + 5 * page, page);
  expect_mapped(base + large, 2 * large, large);
  EXPECT_FALSE(look_up(base + 3 * page).ok());
  EXPECT_FALSE(look_up(base + 5 * page - 1).ok());
  EXPECT_EQ(look_up(base).rights, look_up(base + large).rights) << "the parts keep the rights of the whole";
  EXPECT_EQ(space.unmap(base, 4 * large), 2 * large - 2 * page) << "holes are fine";
  EXPECT_TRUE(space.mappings().empty());
}

TEST_P(MapperTest, UnmapAcrossPageBordersSplitsBothEnds) {
  space.map(request(base, large, 4 * large));
  EXPECT_EQ(space.unmap(base + large - page, 2 * large + 2 * page), 2 * large + 2 * page);
  expect_mapped(base + large - 2 * page, 2 * large - 2 * page, page);
  expect_mapped(base + 3 * large + page, 4 * large + page, page);
  EXPECT_EQ(look_up(base + large).reason, FaultReason::not_present);
}

TEST_P(MapperTest, SplittingTheLargestPageWorksThroughAllLevels) {
  const std::uint64_t largest = layout.page_sizes.back();
  const std::uint64_t vaddr = base & ~(largest - 1);
  space.map(request(vaddr, 0, largest));
  const std::uint64_t middle = vaddr + largest / 2;
  EXPECT_EQ(space.unmap(middle, page), page);
  for (std::size_t i = 0; i + 1 < layout.page_sizes.size(); ++i) {
    const std::uint64_t size = layout.page_sizes[i];
    expect_mapped(middle + size, largest / 2 + size, size);
  }
  std::uint64_t mapped = 0;
  for (const Mapping& mapping : space.mappings()) mapped += mapping.size;
  EXPECT_EQ(mapped, largest - page);
}

TEST_P(MapperTest, UnmapFreesTablesAndMapUsesThemAgain) {
  const std::vector<std::uint8_t> blank = m.bytes();
  for (int i = 0; i < 3; ++i) {
    space.map(request(base + large - page, 0, 2 * page));
    EXPECT_EQ(space.unmap(base, 2 * large), 2 * page);
    EXPECT_EQ(m.bytes() == blank, true) << "everything is zero again, the top table included";
  }
}

TEST_P(MapperTest, ProtectChangesRightsAndNothingElse) {
  space.map(request(base, large, 2 * large, rwx, true));
  space.protect(base + page, page, r, {});
  const Access read_only = layout.name == "x86_2" ? rx : r;
  EXPECT_EQ(user_access(look_up(base + page).rights), read_only);
  EXPECT_EQ(user_access(look_up(base).rights), rwx);
  EXPECT_EQ(user_access(look_up(base + 2 * page).rights), rwx);
  expect_mapped(base + page, large + page, page);
  expect_mapped(base + large, 2 * large, large);
  space.protect(base, 2 * large, rw, false);
  for (const std::uint64_t vaddr : {base, base + page, base + large, base + 2 * large - 1}) {
    EXPECT_EQ(user_access(look_up(vaddr).rights), Access::none);
    EXPECT_EQ(supervisor_access(look_up(vaddr).rights) & rw, rw);
  }
  expect_mapped(base + large, 2 * large, large);
}

TEST_P(MapperTest, ProtectOfWhatAlreadyIsSplitsNothing) {
  space.map(request(base, large, large, rwx, true));
  const std::vector<std::uint8_t> before = m.bytes();
  space.protect(base + page, page, rwx, {});
  space.protect(base + page, page, rwx, true);
  EXPECT_EQ(m.bytes() == before, true);
}

TEST_P(MapperTest, ProtectRefusesHoles) {
  space.map(request(base, large, large, rwx, true));
  space.map(request(base + large + page, 0, page, rwx, true));
  const std::vector<std::uint8_t> before = m.bytes();
  try {
    space.protect(base + page, 2 * large, r, true);
    FAIL() << "there is a hole";
  } catch (const PageFault& fault) {
    EXPECT_EQ(fault.info().vaddr, base + large);
    EXPECT_EQ(fault.info().reason, FaultReason::not_present);
    EXPECT_EQ(fault.info().access, r);
    EXPECT_EQ(fault.info().privilege, user);
  }
  EXPECT_EQ(m.bytes() == before, true);
}

TEST_P(MapperTest, TablesOutsideMemoryAreRefused) {
  space.map(request(base, 0, page));
  // The top entry now points elsewhere.
  const std::uint64_t top_entry = [&] {
    for (std::uint64_t at = layout.root; at < layout.root + 0x1000; at += 4)
      if (m.get32(at) != 0) return at;
    return std::uint64_t{0};
  }();
  ASSERT_NE(top_entry, 0U);
  const std::uint64_t elsewhere = layout.name[0] == 's' ? 0x7FFF'0000 >> 2 : 0x7FFF'0000;
  m.put32(top_entry, static_cast<std::uint32_t>((m.get32(top_entry) & 0x3FF) | elsewhere));
  EXPECT_NE(expect_refused<InvalidConfig>([&] { space.map(request(base + page, 0, page)); }).find("outside"),
            std::string::npos);
  EXPECT_EQ(space.unmap(base, large), 0U) << "what lies there translates nothing";
  expect_refused<PageFault>([&] { space.protect(base, page, r, {}); });
}

TEST_P(MapperTest, ReadOnlyTablesAreAccessViolations) {
  space.map(request(base, large, large));
  std::vector<Region> regions = m.memory->table()->regions();
  for (Region& region : regions) region.writable = false;
  const auto read_only = std::make_shared<GuestMemory>(RegionTable(regions), ImageFacts{});
  AddressSpace same(read_only, layout.config);
  EXPECT_EQ(same.mappings().size(), 1U);
  EXPECT_EQ(same.unmap(base + large, large), 0U) << "nothing to do is fine";
  expect_refused<AccessViolation>([&] { same.unmap(base, large); });
  expect_refused<AccessViolation>([&] { same.protect(base, large, r, false); });
  expect_refused<AccessViolation>([&] { same.map(request(base + large, 0, large)); });
  expect_refused<AccessViolation>([&] { same.unmap(base, page); });
}

}  // namespace
}  // namespace vm::mem::paging
