// Which device answers which access.

#include "vm/accel/devices/bus.hpp"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

/// Notes what it is asked; reads as the offset times 0x11 in each byte.
class Recorder final : public Device {
 public:
  std::uint64_t read(std::uint64_t offset, unsigned width) override {
    log.push_back("r" + std::to_string(offset) + ":" + std::to_string(width));
    return 0x1111111111111111ULL * (offset + 1);
  }
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override {
    log.push_back("w" + std::to_string(offset) + ":" + std::to_string(width) + "=" + std::to_string(value));
  }
  std::vector<std::string> log;
};

std::uint64_t read(DeviceBus::Cursor& cursor, BusSpace space, std::uint64_t address, unsigned width) {
  std::array<std::byte, 8> bytes{};
  cursor.read(space, address, width, bytes.data());
  std::uint64_t value = 0;
  for (unsigned i = 0; i < width; ++i) value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  return value;
}

TEST(Bus, AnAccessInsideARangeReachesItsDeviceWhole) {
  DeviceBus bus;
  const auto low = std::make_shared<Recorder>(), high = std::make_shared<Recorder>();
  bus.add_ports(0x3F8, 8, low, "low");
  bus.add_ports(0x400, 4, high, "high");
  bus.add_memory(0x3F8, 0x1000, high, "same numbers, other space");
  DeviceBus::Cursor cursor(bus);
  EXPECT_EQ(read(cursor, BusSpace::port, 0x3F9, 4), 0x22222222U);
  EXPECT_EQ(read(cursor, BusSpace::memory, 0x3F8, 8), 0x1111111111111111U);
  const std::array<std::byte, 2> word = {std::byte{0x34}, std::byte{0x12}};
  EXPECT_TRUE(cursor.write(BusSpace::port, 0x402, 2, word.data()));
  EXPECT_EQ(low->log, (std::vector<std::string>{"r1:4"}));
  EXPECT_EQ(high->log, (std::vector<std::string>{"r0:8", "w2:2=4660"}));
}

TEST(Bus, WhatLeavesARangeComesByteByByte) {
  DeviceBus bus;
  const auto device = std::make_shared<Recorder>();
  bus.add_ports(0x10, 2, device);
  DeviceBus::Cursor cursor(bus);
  EXPECT_EQ(read(cursor, BusSpace::port, 0x11, 4), 0xFFFFFF22U);  // one byte of the device, three of the open bus
  EXPECT_EQ(read(cursor, BusSpace::port, 0x0F, 2), 0x11FFU);
  EXPECT_EQ(read(cursor, BusSpace::memory, 0x10, 3), 0xFFFFFFU);
  EXPECT_EQ(device->log, (std::vector<std::string>{"r1:1", "r0:1"}));
  EXPECT_EQ(bus.unclaimed(BusSpace::port).reads, 0U);
  EXPECT_EQ(bus.unclaimed(BusSpace::memory).read_bytes, 3U);
}

TEST(Bus, CountsEachRangeAndWhatNobodyAnswers) {
  DeviceBus bus;
  bus.add_ports(0x10, 4, std::make_shared<Recorder>(), "counted");
  DeviceBus::Cursor cursor(bus);
  const std::array<std::byte, 4> bytes{};
  cursor.write(BusSpace::port, 0x10, 4, bytes.data());
  read(cursor, BusSpace::port, 0x12, 2);
  EXPECT_FALSE(cursor.write(BusSpace::port, 0x80, 1, bytes.data()));
  EXPECT_EQ(read(cursor, BusSpace::port, 0x80, 4), 0xFFFFFFFFU);
  const auto usage = bus.usage();
  ASSERT_EQ(usage.size(), 1U);
  EXPECT_EQ(usage[0].range.name, "counted");
  EXPECT_EQ(usage[0].traffic.writes, 1U);
  EXPECT_EQ(usage[0].traffic.written_bytes, 4U);
  EXPECT_EQ(usage[0].traffic.reads, 1U);
  EXPECT_EQ(usage[0].traffic.read_bytes, 2U);
  EXPECT_EQ(bus.unclaimed(BusSpace::port).writes, 1U);
  EXPECT_EQ(bus.unclaimed(BusSpace::port).read_bytes, 4U);
  EXPECT_TRUE(cursor.claims(BusSpace::port, 0x0E, 4));
  EXPECT_FALSE(cursor.claims(BusSpace::port, 0x0E, 2));
}

TEST(Bus, ACursorSeesChanges) {
  DeviceBus bus;
  DeviceBus::Cursor cursor(bus);
  EXPECT_EQ(read(cursor, BusSpace::port, 0x10, 1), 0xFFU);
  bus.add_ports(0x10, 1, std::make_shared<Recorder>());
  EXPECT_EQ(read(cursor, BusSpace::port, 0x10, 1), 0x11U);
  EXPECT_TRUE(bus.remove(BusSpace::port, 0x10));
  EXPECT_FALSE(bus.remove(BusSpace::port, 0x10));
  EXPECT_EQ(read(cursor, BusSpace::port, 0x10, 1), 0xFFU);
}

TEST(Bus, RefusesRangesThatMakeNoSense) {
  DeviceBus bus;
  const auto device = std::make_shared<Recorder>();
  bus.add_memory(0x1000, 0x1000, device);
  EXPECT_THROW(bus.add_memory(0x1FFF, 1, device), InvalidConfig);
  EXPECT_THROW(bus.add_memory(0x0, 0x1001, device), InvalidConfig);
  EXPECT_THROW(bus.add_memory(0x5000, 0, device), InvalidConfig);
  EXPECT_THROW(bus.add_memory(~std::uint64_t{0}, 2, device), InvalidConfig);
  EXPECT_THROW(bus.add_memory(0x5000, 1, nullptr), InvalidConfig);
  EXPECT_THROW(bus.add_ports(0xFFFF, 2, device), InvalidConfig);
  bus.add_memory(0x2000, 1, device);
  bus.add_memory(0xFFF, 1, device);
  EXPECT_EQ(bus.usage().size(), 3U);
}

}  // namespace
}  // namespace vm::accel
