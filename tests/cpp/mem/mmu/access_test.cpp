// Reads and writes: borders of pages, regions and devices, faults exact to the byte, words.

#include <gtest/gtest.h>

#include <cstring>

#include "support.hpp"

namespace vm::mem {
namespace {

constexpr Access read_write = Access::read | Access::write;

class Device final : public MmioHandler {
 public:
  std::uint64_t read(std::uint64_t offset, unsigned width) override {
    ++reads;
    return offset << 8 | width;
  }
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override {
    last = {offset, width, value};
    ++writes;
  }
  struct {
    std::uint64_t offset = 0;
    unsigned width = 0;
    std::uint64_t value = 0;
  } last;
  int reads = 0;
  int writes = 0;
};

/// RAM at 0..1M; virtual pages 0x10000..0x13FFF map to scattered frames, 0x14000 to a device at 2M, 0x15000 to nothing
/// physical, 0x16000 not at all.
class MmuAccessTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::uint64_t frames[] = {0x9000, 0x5000, 0x6000, 0x3000};
    for (std::uint64_t i = 0; i < 4; ++i)
      mmu.map_page(GuestVirtual(0x1'0000 + i * 0x1000), GuestPhysical(frames[i]), read_write);
    mmu.map_page(GuestVirtual(0x1'4000), GuestPhysical(0x20'0000), read_write);
    mmu.map_page(GuestVirtual(0x1'5000), GuestPhysical(0x30'0000), read_write);
    mmu.map_page(GuestVirtual(0x1'7000), GuestPhysical(0x7000), Access::read);
    mmu.mmio().add({0x20'0000, 0x1000, all_mmio_widths, "device", device});
  }

  std::shared_ptr<GuestMemory> memory = GuestMemory::anonymous(mib);
  Mmu mmu{memory, long_mode()};
  std::shared_ptr<Device> device = std::make_shared<Device>();
};

TEST_F(MmuAccessTest, BytesFollowThePages) {
  std::vector<unsigned char> out(0x3000), in(0x3000);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<unsigned char>(i * 7 + i / 256);
  mmu.write(GuestVirtual(0x1'0800), out.data(), out.size());
  mmu.read(GuestVirtual(0x1'0800), in.data(), in.size());
  EXPECT_EQ(in, out);
  unsigned char frame[0x800];
  memory->read(0x9800, frame, sizeof frame);
  EXPECT_EQ(std::memcmp(frame, out.data(), sizeof frame), 0);
  memory->read(0x3000, frame, sizeof frame);
  EXPECT_EQ(std::memcmp(frame, out.data() + 0x2800, sizeof frame), 0);
}

TEST_F(MmuAccessTest, FaultsNameTheFirstByteAndLeaveNothingBehind) {
  const std::vector<unsigned char> ones(0x2000, 0xFF);
  mmu.unmap_page(GuestVirtual(0x1'1000));
  try {
    mmu.write(GuestVirtual(0x1'0F00), ones.data(), 0x200);
    FAIL();
  } catch (const PageFault& fault) {
    EXPECT_EQ(fault.info().vaddr, 0x1'1000U);
    EXPECT_EQ(fault.info().reason, FaultReason::not_present);
  }
  EXPECT_EQ(mmu.load<std::uint8_t>(GuestVirtual(0x1'0F00)), 0) << "nothing was written";

  try {
    mmu.write(GuestVirtual(0x1'4FFF), ones.data(), 2);
    FAIL();
  } catch (const OutOfRange& error) {
    EXPECT_EQ(error.address(), 0x30'0000U);
  }
  EXPECT_EQ(device->writes, 0);
  EXPECT_THROW(mmu.write(GuestVirtual(0x1'7000), ones.data(), 1), PageFault);
  EXPECT_THROW(mmu.read(GuestVirtual(0x1'3000), std::vector<unsigned char>(0x4000).data(), 0x4000), OutOfRange);
}

TEST_F(MmuAccessTest, ReadOnlyMemoryRefusesWrites) {
  paging::X86Config lax = long_mode();
  lax.write_protect = false;
  mmu.switch_to(lax, {});
  EXPECT_NO_THROW(mmu.store<std::uint8_t>(GuestVirtual(0x1'7000), 1)) << "the page is, the memory is not";
}

TEST_F(MmuAccessTest, DevicesSeeOneAccessOfTheWordsWidth) {
  EXPECT_EQ(mmu.load<std::uint32_t>(GuestVirtual(0x1'4010)), 0x1004U);
  EXPECT_EQ(mmu.load<std::uint8_t>(GuestVirtual(0x1'4001)), 0x01U);
  mmu.store<std::uint16_t>(GuestVirtual(0x1'4ABC), 0xBEEF);
  EXPECT_EQ(device->last.offset, 0xABCU);
  EXPECT_EQ(device->last.width, 2U);
  EXPECT_EQ(device->last.value, 0xBEEFU);
  EXPECT_THROW(mmu.load<std::uint32_t>(GuestVirtual(0x1'4002)), AccessViolation);
  std::uint32_t expected = 0;
  EXPECT_THROW(mmu.compare_exchange<std::uint32_t>(GuestVirtual(0x1'4000), expected, 1), NotSupported);
  const MmuStats stats = mmu.stats();
  EXPECT_EQ(stats.mmio_reads, 3U);
  EXPECT_EQ(stats.mmio_writes, 1U);
}

TEST_F(MmuAccessTest, AnAccessMayRunFromMemoryIntoADevice) {
  const unsigned char bytes[] = {1, 2, 3, 4};
  mmu.write(GuestVirtual(0x1'3FFE), bytes, 4);
  EXPECT_EQ(mmu.load<std::uint16_t>(GuestVirtual(0x1'3FFE)), 0x0201);
  EXPECT_EQ(device->last.offset, 0U);
  EXPECT_EQ(device->last.value, 0x0403U);
  EXPECT_EQ(mmu.load<std::uint32_t>(GuestVirtual(0x1'3FFE)), 0x0002'0201U) << "two bytes of each";
}

TEST_F(MmuAccessTest, WordsAcrossPages) {
  mmu.store<std::uint64_t>(GuestVirtual(0x1'0FFC), 0x1122'3344'5566'7788);
  EXPECT_EQ(mmu.load<std::uint64_t>(GuestVirtual(0x1'0FFC)), 0x1122'3344'5566'7788U);
  EXPECT_EQ(mmu.load<std::uint32_t>(GuestVirtual(0x1'1000)), 0x1122'3344U);
}

TEST_F(MmuAccessTest, CompareExchange) {
  mmu.store<std::uint64_t>(GuestVirtual(0x1'0008), 5);
  std::uint64_t expected = 4;
  EXPECT_FALSE(mmu.compare_exchange<std::uint64_t>(GuestVirtual(0x1'0008), expected, 9));
  EXPECT_EQ(expected, 5U);
  EXPECT_TRUE(mmu.compare_exchange<std::uint64_t>(GuestVirtual(0x1'0008), expected, 9));
  EXPECT_EQ(mmu.load<std::uint64_t>(GuestVirtual(0x1'0008)), 9U);
  EXPECT_THROW(mmu.compare_exchange<std::uint64_t>(GuestVirtual(0x1'0004), expected, 9), InvalidConfig);
  EXPECT_THROW(mmu.compare_exchange<std::uint64_t>(GuestVirtual(0x1'7000), expected, 9), PageFault) << "read-only";
}

TEST_F(MmuAccessTest, RegionsThatTouchAreOne) {
  auto other = GuestMemory::anonymous(0x1000, mib);
  memory->add(*other);
  mmu.map({0x40'0000, mib - 0x1000, 0x2000, read_write, false, std::nullopt});
  mmu.store<std::uint64_t>(GuestVirtual(0x40'0FFC), UINT64_MAX);
  std::uint32_t half = 0;
  other->read(mib, &half, sizeof half);
  EXPECT_EQ(half, UINT32_MAX);
}

}  // namespace
}  // namespace vm::mem
