// MMIO ranges: who answers what, in which widths, and what is refused.

#include "vm/mem/guest/mmio.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <map>
#include <thread>

#include "vm/core/error.hpp"

namespace {

using vm::AccessViolation;
using vm::InvalidConfig;
using vm::OutOfRange;
using vm::mem::GuestMemory;
using vm::mem::MmioHandler;
using vm::mem::MmioManager;
using vm::mem::MmioRange;

/// Remembers every access; reads answer the offset in every byte's place.
class Recorder final : public MmioHandler {
 public:
  struct Seen {
    char kind;
    std::uint64_t offset;
    unsigned width;
    std::uint64_t value;
    bool operator==(const Seen& o) const {
      return kind == o.kind && offset == o.offset && width == o.width && value == o.value;
    }
  };

  std::uint64_t read(std::uint64_t offset, unsigned width) override {
    seen.push_back({'r', offset, width, 0});
    return 0x8877'6655'4433'2211;
  }
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override {
    seen.push_back({'w', offset, width, value});
  }

  std::vector<Seen> seen;
};

class MmioTest : public testing::Test {
 protected:
  MmioRange range(std::uint64_t base, std::uint64_t size, unsigned widths = vm::mem::all_mmio_widths) {
    return {base, size, widths, "device", device};
  }

  std::shared_ptr<Recorder> device = std::make_shared<Recorder>();
  std::shared_ptr<GuestMemory> memory = GuestMemory::anonymous(0x10000);
  MmioManager mmio{memory};
};

TEST_F(MmioTest, WidthsReachTheHandlerWithTheirOffsets) {
  mmio.add(range(0x1'0000, 0x100));
  EXPECT_EQ(mmio.read(0x1'0001, 1), 0x11U);
  EXPECT_EQ(mmio.read(0x1'0002, 2), 0x2211U);
  EXPECT_EQ(mmio.read(0x1'0004, 4), 0x4433'2211U);
  EXPECT_EQ(mmio.read(0x1'00F8, 8), 0x8877'6655'4433'2211U);
  mmio.write(0x1'0010, 2, 0xABCDEF);
  const std::vector<Recorder::Seen> expected = {
      {'r', 1, 1, 0}, {'r', 2, 2, 0}, {'r', 4, 4, 0}, {'r', 0xF8, 8, 0}, {'w', 0x10, 2, 0xCDEF}};
  EXPECT_TRUE(device->seen == expected);
}

TEST_F(MmioTest, AccessesThatTheDeviceDoesNotAnswer) {
  mmio.add(range(0x2'0000, 0x10, 4));
  EXPECT_THROW(mmio.read(0x2'0000, 1), AccessViolation);
  EXPECT_THROW(mmio.write(0x2'0000, 8, 0), AccessViolation);
  EXPECT_THROW(mmio.read(0x2'0002, 4), AccessViolation) << "not aligned";
  EXPECT_THROW(mmio.read(0x2'000E, 4), OutOfRange);
  EXPECT_THROW(mmio.read(0x3'0000, 4), OutOfRange);
  EXPECT_TRUE(device->seen.empty());
}

TEST_F(MmioTest, BytesGoInTheWidestAlignedParts) {
  mmio.add(range(0x2'0000, 0x100));
  unsigned char bytes[15];
  for (unsigned i = 0; i < sizeof bytes; ++i) bytes[i] = static_cast<unsigned char>(i + 1);
  mmio.write_bytes(0x2'0001, bytes, sizeof bytes);
  const std::vector<Recorder::Seen> expected = {
      {'w', 1, 1, 0x01}, {'w', 2, 2, 0x0302}, {'w', 4, 4, 0x07060504}, {'w', 8, 8, 0x0F0E'0D0C'0B0A'0908}};
  EXPECT_TRUE(device->seen == expected);

  device->seen.clear();
  std::memset(bytes, 0, sizeof bytes);
  mmio.read_bytes(0x2'0004, bytes, 5);
  EXPECT_EQ(device->seen.size(), 2U);
  EXPECT_EQ(bytes[3], 0x44);
  EXPECT_EQ(bytes[4], 0x11);
  EXPECT_EQ(bytes[5], 0);
}

TEST_F(MmioTest, ABlockThatCannotEndIsRefusedBeforeItBegins) {
  mmio.add(range(0x2'0000, 0x100, 4 | 8));
  const char bytes[6] = {};
  EXPECT_THROW(mmio.write_bytes(0x2'0000, bytes, 6), AccessViolation);
  EXPECT_THROW(mmio.write_bytes(0x2'00FE, bytes, 6), OutOfRange);
  EXPECT_TRUE(device->seen.empty());
  mmio.write_bytes(0x9'0000, bytes, 0);
}

TEST_F(MmioTest, RangesThatCannotBe) {
  mmio.add(range(0x2'0000, 0x1000));
  EXPECT_THROW(mmio.add(range(0x2'0FFF, 1)), InvalidConfig);
  EXPECT_THROW(mmio.add(range(0x1'FFFF, 2)), InvalidConfig);
  EXPECT_THROW(mmio.add(range(0xFFFF, 1)), InvalidConfig) << "memory";
  EXPECT_THROW(mmio.add(range(0x3'0000, 0)), InvalidConfig);
  EXPECT_THROW(mmio.add(range(UINT64_MAX, 2)), InvalidConfig);
  EXPECT_THROW(mmio.add(range(0x3'0000, 8, 0)), InvalidConfig);
  EXPECT_THROW(mmio.add(range(0x3'0000, 8, 16)), InvalidConfig);
  EXPECT_THROW(mmio.add({0x3'0000, 8, 1, "", nullptr}), InvalidConfig);
  EXPECT_THROW(MmioManager(nullptr), InvalidConfig);
  EXPECT_EQ(mmio.ranges().size(), 1U);
  mmio.add(range(0x2'1000, 1));
  mmio.add(range(0x1'0000, 1));
  EXPECT_EQ(mmio.ranges()[0].base, 0x1'0000U);
  EXPECT_EQ(mmio.ranges()[2].base, 0x2'1000U);
  mmio.add(range(UINT64_MAX, 1));
  EXPECT_TRUE(mmio.contains(UINT64_MAX));
  EXPECT_FALSE(mmio.contains(UINT64_MAX - 1));
}

TEST_F(MmioTest, RemovedRangesAnswerNoMore) {
  mmio.add(range(0x2'0000, 0x1000));
  EXPECT_FALSE(mmio.remove(0x2'0001));
  EXPECT_TRUE(mmio.remove(0x2'0000));
  EXPECT_FALSE(mmio.remove(0x2'0000));
  EXPECT_TRUE(mmio.empty());
  EXPECT_THROW(mmio.read(0x2'0000, 1), OutOfRange);
}

class Counter final : public MmioHandler {
 public:
  explicit Counter(std::atomic<int>& alive) : alive_(alive) { ++alive_; }
  ~Counter() override { --alive_; }
  std::uint64_t read(std::uint64_t, unsigned) override { return static_cast<std::uint64_t>(alive_.load()); }
  void write(std::uint64_t, unsigned, std::uint64_t) override {}

 private:
  std::atomic<int>& alive_;
};

TEST_F(MmioTest, AHandlerOutlivesTheAccessesThatUseIt) {
  std::atomic<int> alive{0};
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) {
      try {
        EXPECT_GE(mmio.read(0x2'0000, 4), 1U);
      } catch (const OutOfRange&) {
      }
    }
  });
  for (int i = 0; i < 2000; ++i) {
    mmio.add({0x2'0000, 8, 4, "", std::make_shared<Counter>(alive)});
    mmio.remove(0x2'0000);
  }
  stop = true;
  reader.join();
  EXPECT_EQ(alive, 0);
}

}  // namespace
