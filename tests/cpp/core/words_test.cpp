// Addresses, access rights, faults and errors.

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <type_traits>
#include <unordered_set>

#include "vm/core/access.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/core/fault.hpp"

namespace {

using vm::Access;
using vm::FaultReason;
using vm::GuestPhysical;
using vm::GuestVirtual;

template <class Kind, class Value>
constexpr bool accepts = std::is_convertible_v<Value, Kind>;

TEST(Address, KindsDoNotConvertIntoEachOther) {
  static_assert(!accepts<GuestVirtual, GuestPhysical> && !accepts<vm::HostVirtual, GuestPhysical>);
  static_assert(!accepts<GuestVirtual, std::uint64_t> && !accepts<std::uint64_t, GuestVirtual>);
  static_assert(!std::is_constructible_v<GuestVirtual, GuestPhysical>);
}

TEST(Address, ComparesMovesAndHashes) {
  const GuestVirtual a{0x1000}, b{0x1008};
  EXPECT_TRUE(a < b && a <= a && b > a && b >= b && a != b && a == GuestVirtual{0x1000});
  EXPECT_EQ(a + 8, b);
  EXPECT_EQ(b - 8, a);
  EXPECT_EQ(b - a, 8U);
  EXPECT_EQ(a - b, ~std::uint64_t{7}) << "wraps like the addresses";
  EXPECT_EQ((std::unordered_set<GuestVirtual>{a, b, a}.size()), 2U);
}

TEST(Address, Alignment) {
  EXPECT_EQ(vm::align_down(0x12345, 0x1000), 0x12000U);
  EXPECT_EQ(vm::align_up(0x12345, 0x1000), 0x13000U);
  EXPECT_EQ(vm::align_up(0x12000, 0x1000), 0x12000U);
  EXPECT_EQ(vm::align_up(UINT64_MAX, 0x1000), 0U) << "documented: wraps";
  EXPECT_TRUE(vm::is_aligned(0, 4096) && vm::is_aligned(8192, 4096));
  EXPECT_FALSE(vm::is_aligned(4097, 4096));
  EXPECT_TRUE(vm::is_power_of_two(1) && vm::is_power_of_two(std::uint64_t{1} << 63));
  EXPECT_FALSE(vm::is_power_of_two(0) || vm::is_power_of_two(3));
}

TEST(Address, RangesThatFit) {
  EXPECT_TRUE(vm::range_fits(UINT64_MAX, 1));
  EXPECT_TRUE(vm::range_fits(UINT64_MAX, 0));
  EXPECT_FALSE(vm::range_fits(UINT64_MAX, 2));
  EXPECT_TRUE(vm::range_fits(0, UINT64_MAX));
  EXPECT_FALSE(vm::range_fits(2, UINT64_MAX));
}

TEST(Address, PageSizesAreTheirBytes) {
  EXPECT_EQ(bytes(vm::PageSize::size_4k), 4096U);
  EXPECT_EQ(bytes(vm::PageSize::size_2m), 2U << 20);
  EXPECT_EQ(bytes(vm::PageSize::size_256t), std::uint64_t{1} << 48);
}

TEST(Access, IsASet) {
  const Access both = Access::read | Access::write;
  EXPECT_TRUE(has(both, Access::read) && has(both, both) && has(both, Access::none));
  EXPECT_FALSE(has(Access::read, both));
  EXPECT_TRUE(has_any(Access::read, both));
  EXPECT_FALSE(has_any(Access::execute, both));
  EXPECT_EQ(~both, Access::execute);
  EXPECT_EQ(both & Access::write, Access::write);
  Access access = Access::read;
  access |= Access::execute;
  access &= ~Access::read;
  EXPECT_EQ(access, Access::execute);
}

TEST(Access, IsWrittenAsInProcMaps) {
  EXPECT_EQ(to_string(Access::none), "---");
  EXPECT_EQ(to_string(Access::read | Access::execute), "r-x");
  EXPECT_EQ(to_string(Access::write), "-w-");
  EXPECT_EQ(to_string(vm::Privilege::user), "user");
  EXPECT_EQ(to_string(vm::Privilege::supervisor), "supervisor");
}

TEST(Fault, EveryReasonHasItsOwnWords) {
  std::set<std::string> words;
  for (int i = 0; i < vm::fault_reason_count; ++i) words.insert(describe(static_cast<FaultReason>(i)));
  EXPECT_EQ(words.size(), static_cast<std::size_t>(vm::fault_reason_count));
  EXPECT_EQ(words.count("unknown reason"), 0U);
  EXPECT_STREQ(describe(static_cast<FaultReason>(255)), "unknown reason");
}

TEST(Fault, MessageSaysAllThatIsKnown) {
  const vm::FaultInfo info{0x7fff00001000, Access::write, vm::Privilege::user, 1, FaultReason::user_denied, 7};
  EXPECT_EQ(
      info.message(),
      "page fault at 0x7fff00001000: user access to a supervisor page (user -w- access, level 1, error code 0x7)");
  const vm::PageFault fault(info);
  EXPECT_EQ(fault.what(), info.message());
  EXPECT_EQ(fault.info().level, 1);
}

TEST(Error, FieldsAndFamily) {
  try {
    throw vm::OutOfRange("a hole", 0x1000, 16);
  } catch (const vm::VmError& error) {
    EXPECT_STREQ(error.what(), "a hole");
    const auto* range = dynamic_cast<const vm::OutOfRange*>(&error);
    ASSERT_NE(range, nullptr);
    EXPECT_EQ(range->address(), 0x1000U);
    EXPECT_EQ(range->size(), 16U);
  }
  EXPECT_EQ(vm::PlatformError("refused", 13).code(), 13);
  EXPECT_THROW(throw vm::ClosedError("closed"), std::runtime_error);
}

TEST(Error, AddressesInMessages) {
  EXPECT_EQ(vm::hex(0), "0x0");
  EXPECT_EQ(vm::hex(0x1f000), "0x1f000");
  EXPECT_EQ(vm::hex(UINT64_MAX), "0xffffffffffffffff");
}

}  // namespace
