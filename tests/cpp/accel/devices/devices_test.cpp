// Every device alone.

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "vm/accel/devices/cmos.hpp"
#include "vm/accel/devices/fw_cfg.hpp"
#include "vm/accel/devices/ports.hpp"
#include "vm/accel/devices/serial.hpp"
#include "vm/accel/devices/stop_request.hpp"
#include "vm/accel/devices/test_device.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

const std::byte* as_bytes(const char* text) { return reinterpret_cast<const std::byte*>(text); }

TEST(Serial, SendsWhatIsWrittenUnlessTheDivisorIsSelected) {
  const auto sink = std::make_shared<BufferSink>();
  Serial serial(sink);
  serial.write(3, 1, 0x80);
  serial.write(0, 1, 0x0C);
  serial.write(1, 1, 0x34);
  EXPECT_EQ(serial.read(0, 2), 0x340CU);
  serial.write(3, 1, 0x03);
  for (const char c : std::string("hi\n")) serial.write(0, 1, static_cast<std::uint64_t>(c));
  EXPECT_EQ(sink->text(), "hi\n");
  EXPECT_EQ(serial.read(5, 1), 0x60U);
  EXPECT_EQ(serial.read(6, 1), 0xB0U);
  serial.write(7, 1, 0x5A);
  EXPECT_EQ(serial.read(7, 1), 0x5AU);
}

TEST(Serial, GivesWhatWasFedAndSaysSo) {
  Serial serial(nullptr);
  serial.write(0, 1, 'x');  // nobody listens: dropped
  serial.feed(as_bytes("ab"), 2);
  EXPECT_EQ(serial.read(5, 1), 0x61U);
  EXPECT_EQ(serial.read(0, 1), 'a');
  EXPECT_EQ(serial.waiting(), 1U);
  EXPECT_EQ(serial.read(0, 1), 'b');
  EXPECT_EQ(serial.read(0, 1), 0U);
  EXPECT_EQ(serial.read(5, 1), 0x60U);
  serial.feed(as_bytes("ab"), 2);
  serial.write(2, 1, 0x03);  // FIFOs on, receiver cleared
  EXPECT_EQ(serial.waiting(), 0U);
  EXPECT_EQ(serial.read(2, 1), 0xC1U);
}

TEST(Serial, DrivesItsLineByCauseAndEnable) {
  std::vector<bool> levels;
  Serial serial(nullptr, [&levels](bool high) { levels.push_back(high); });
  serial.feed(as_bytes("a"), 1);
  EXPECT_TRUE(levels.empty());
  serial.write(4, 1, 0x08);  // OUT2 opens the gate
  serial.write(1, 1, 0x01);
  EXPECT_EQ(levels, (std::vector<bool>{true}));
  EXPECT_EQ(serial.read(2, 1), 0x04U);
  serial.read(0, 1);
  EXPECT_EQ(levels, (std::vector<bool>{true, false}));
  serial.write(1, 1, 0x02);  // the transmitter is empty at once
  EXPECT_EQ(serial.read(2, 1), 0x02U);
  EXPECT_EQ(levels, (std::vector<bool>{true, false, true, false}));
  EXPECT_EQ(serial.read(2, 1), 0x01U);
  serial.write(0, 1, 'x');
  EXPECT_EQ(levels.back(), true);
  serial.write(4, 1, 0x00);
  EXPECT_EQ(levels.back(), false);
}

TEST(Serial, LoopsBackWithinItsFifo) {
  const auto sink = std::make_shared<BufferSink>();
  Serial serial(sink);
  serial.write(4, 1, 0x1F);
  EXPECT_EQ(serial.read(6, 1), 0xF0U);
  for (int i = 0; i < 100; ++i) serial.write(0, 1, static_cast<std::uint64_t>(i));
  EXPECT_EQ(serial.waiting(), 16U);
  EXPECT_EQ(serial.read(0, 1), 0U);
  EXPECT_EQ(serial.read(0, 1), 1U);
  EXPECT_TRUE(sink->text().empty());
}

TEST(Sinks, KeepTheLastBytesOrPassThemOn) {
  BufferSink buffer(4);
  for (int i = 0; i < 5; ++i) buffer.write(as_bytes("abc"), 3);
  EXPECT_EQ(buffer.text(), "cabc");
  EXPECT_EQ(buffer.dropped(), 11U);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  DescriptorSink sink(ends[1]);
  ::close(ends[1]);  // the sink has its own
  sink.write(as_bytes("xyz"), 3);
  std::array<char, 8> got{};
  EXPECT_EQ(::read(ends[0], got.data(), got.size()), 3);
  EXPECT_STREQ(got.data(), "xyz");
  ::close(ends[0]);
  EXPECT_THROW(DescriptorSink(-1), PlatformError);
}

TEST(StopRequests, KeepTheFirstReasonAndWake) {
  StopRequest stop;
  int woken = 0;
  {
    const StopRequest::Subscription subscription(stop, [&woken] { ++woken; });
    EXPECT_FALSE(stop.requested());
    stop.request({StopKind::exit, 7, "first"});
    stop.request({StopKind::reset, 0, "second"});
  }
  EXPECT_EQ(woken, 1);
  ASSERT_TRUE(stop.reason());
  EXPECT_EQ(stop.reason()->source, "first");
  EXPECT_STREQ(stop_kind_name(stop.reason()->kind), "exit");
  const StopRequest::Subscription late(stop, [&woken] { ++woken; });
  EXPECT_EQ(woken, 2);
  stop.clear();
  EXPECT_FALSE(stop.requested());
}

TEST(Sinks, ABufferWithoutBoundsDropsNothing) {
  BufferSink buffer(SIZE_MAX / 2 + 1);
  buffer.write(reinterpret_cast<const std::byte*>("ab"), 2);
  EXPECT_EQ(buffer.text(), "ab");
  EXPECT_EQ(buffer.dropped(), 0U);
}

TEST(StopRequests, WakeAllWhoWait) {
  StopRequest stop;
  int first = 0;
  int second = 0;
  const StopRequest::Subscription longest(stop, [&first] { ++first; });
  {
    const StopRequest::Subscription shorter(stop, [&second] { ++second; });
    stop.request({StopKind::cancelled, 0, ""});
  }
  stop.clear();
  stop.request({StopKind::cancelled, 0, ""});
  EXPECT_EQ(first, 2);
  EXPECT_EQ(second, 1);
}

TEST(Ports, EndTheMachine) {
  const auto ends = [](auto make, auto write) {
    const auto stop = std::make_shared<StopRequest>();
    const auto device = make(stop);
    write(*device);
    const auto reason = stop->reason();
    return reason ? std::string(stop_kind_name(reason->kind)) + " " + std::to_string(reason->status) : "no";
  };
  const auto debug_exit = [](auto stop) { return std::make_shared<DebugExit>(stop); };
  EXPECT_EQ(ends(debug_exit, [](Device& d) { d.write(0, 4, 0); }), "exit 1");
  EXPECT_EQ(ends(debug_exit, [](Device& d) { d.write(0, 1, 33); }), "exit 67");
  const auto power = [](auto stop) { return std::make_shared<PowerOffPort>(stop); };
  const auto spell = [](const char* text) {
    return [text](Device& d) {
      for (const char* c = text; *c != '\0'; ++c) d.write(0, 1, static_cast<std::uint64_t>(*c));
    };
  };
  EXPECT_EQ(ends(power, spell("Shutdown")), "power_off 0");
  EXPECT_EQ(ends(power, spell("ShutShutdown")), "power_off 0");
  EXPECT_EQ(ends(power, spell("Shut down")), "no");
  const auto keyboard = [](auto stop) { return std::make_shared<KeyboardController>(stop); };
  EXPECT_EQ(ends(keyboard, [](Device& d) { d.write(4, 1, 0xFE); }), "reset 0");
  EXPECT_EQ(ends(keyboard, [](Device& d) { d.write(0, 1, 0xFE); }), "no");
  EXPECT_EQ(KeyboardController(std::make_shared<StopRequest>()).read(4, 1), 0U);
  const auto pci = [](auto stop) { return std::make_shared<EmptyPci>(stop); };
  EXPECT_EQ(ends(pci, [](Device& d) { d.write(1, 1, 0x02); }), "no");
  EXPECT_EQ(ends(pci, [](Device& d) { d.write(1, 1, 0x06); }), "reset 0");
  EXPECT_EQ(ends(pci, [](Device& d) { d.write(0, 4, 0x80000600); }), "no");
}

TEST(Ports, AnswerReads) {
  const auto stop = std::make_shared<StopRequest>();
  EmptyPci pci(stop);
  pci.write(0, 4, 0x80001000);
  pci.write(1, 1, 0x02);
  EXPECT_EQ(pci.read(0, 4), 0x80001000U);
  EXPECT_EQ(pci.read(1, 1), 2U);
  EXPECT_EQ(static_cast<std::uint32_t>(pci.read(4, 4)), 0xFFFFFFFFU);
  EXPECT_EQ(DebugExit(stop).read(0, 4), 0U);
  EXPECT_EQ(static_cast<std::uint8_t>(PowerOffPort(stop).read(0, 1)), 0xFFU);
  IgnoredPort ignored;
  ignored.write(0, 1, 5);
  EXPECT_EQ(ignored.read(0, 1), 0U);
}

std::string item(FwCfg& device, std::uint16_t number, std::size_t bytes) {
  device.write(0, 2, number);
  std::string result;
  for (std::size_t i = 0; i < bytes; ++i) result += static_cast<char>(device.read(1, 1));
  return result;
}

TEST(FwCfg, TellsFactsAndFiles) {
  FwCfg device(std::uint64_t{5} << 30, 3);
  EXPECT_EQ(item(device, FwCfg::signature, 4), "QEMU");
  EXPECT_EQ(item(device, FwCfg::interface_version, 5), std::string("\1\0\0\0\0", 5));
  EXPECT_EQ(item(device, FwCfg::ram_size, 8), std::string("\0\0\0\x40\1\0\0\0", 8));
  EXPECT_EQ(item(device, FwCfg::cpus, 2), std::string("\3\0", 2));
  EXPECT_EQ(item(device, 0x8000, 2), std::string("\0\0", 2));
  EXPECT_EQ(item(device, FwCfg::directory, 4), std::string("\0\0\0\0", 4));
  const std::uint16_t number = device.add_file("opt/hello", {std::byte{'h'}, std::byte{'i'}});
  EXPECT_EQ(item(device, number, 3), std::string("hi\0", 3));
  EXPECT_EQ(item(device, FwCfg::directory, 21), std::string("\0\0\0\1\0\0\0\2\0\x20\0\0opt/hello", 21));
  EXPECT_THROW(device.add_file("opt/hello", {}), InvalidConfig);
  EXPECT_THROW(device.add_file(std::string(56, 'x'), {}), InvalidConfig);
  device.write(1, 1, 7);  // the data is read-only
  EXPECT_EQ(device.read(0, 2), 0U);
}

TEST(Cmos, ShowsTheTimeAndTheMemory) {
  Cmos device(std::uint64_t{3} << 30, std::uint64_t{1} << 30, 2, [] { return std::time_t{1'000'000'000}; });
  const auto at = [&device](unsigned index) {
    device.write(0, 1, index);
    return device.read(1, 1);
  };
  // 2001-09-09 01:46:40 UTC, a Sunday.
  EXPECT_EQ(at(0), 0x40U);
  EXPECT_EQ(at(2), 0x46U);
  EXPECT_EQ(at(4), 0x01U);
  EXPECT_EQ(at(6), 0x01U);
  EXPECT_EQ(at(7), 0x09U);
  EXPECT_EQ(at(8), 0x09U);
  EXPECT_EQ(at(9), 0x01U);
  EXPECT_EQ(at(0x32), 0x20U);
  EXPECT_EQ(at(0x0B), 0x02U);
  EXPECT_EQ(at(0x0D), 0x80U);
  EXPECT_EQ(at(0x34) | at(0x35) << 8, ((std::uint64_t{3} << 30) - (16 << 20)) >> 16);
  EXPECT_EQ(at(0x5B) | at(0x5C) << 8 | at(0x5D) << 16, 0x4000U);
  EXPECT_EQ(at(0x5F), 1U);
  EXPECT_EQ(at(0x17) | at(0x18) << 8, 0xFFFFU);
  device.write(0, 1, 0x8F);
  device.write(1, 1, 0x5A);
  EXPECT_EQ(at(0x0F), 0x5AU);
  device.write(0, 2, 0x7710);
  EXPECT_EQ(at(0x10), 0x77U);
  device.write(0, 1, 0);
  device.write(1, 1, 0x11);  // the time cannot be set
  EXPECT_EQ(at(0), 0x40U);
}

TEST(TestDevice, EchoesSetsLinesAndBehavesLikeMemory) {
  EchoPort echo;
  echo.write(0, 4, 0x12345678);
  EXPECT_EQ(echo.read(0, 4), 0x12345678U);
  echo.write(0, 1, 0x1FF);
  EXPECT_EQ(echo.read(0, 4), 0xFFU);
  std::vector<std::pair<unsigned, bool>> lines;
  IrqLinePorts ports([&lines](unsigned line, bool high) { lines.emplace_back(line, high); });
  ports.write(4, 1, 1);
  ports.write(23, 1, 0);
  EXPECT_EQ(lines, (std::vector<std::pair<unsigned, bool>>{{4, true}, {23, false}}));
  MemoryDevice memory(16);
  memory.write(3, 4, 0xAABBCCDD);
  EXPECT_EQ(memory.read(2, 8), 0xAABBCCDD00U);
  EXPECT_THROW(memory.read(9, 8), OutOfRange);
  EXPECT_THROW(memory.write(16, 1, 0), OutOfRange);
}

TEST(TestDevice, AFlushedPageKeepsItsBytes) {
  const auto memory = mem::GuestMemory::anonymous(1 << 16);
  const std::uint32_t word = 0x600DF00D;
  memory->write(0x3004, &word, sizeof word);
  PageFlushPort port(memory);
  port.write(0, 4, 0x3ABC);
  port.write(0, 4, 0xFFFFFFFF);  // no memory there: nothing to flush
  std::uint32_t after = 0;
  memory->read(0x3004, &after, sizeof after);
  EXPECT_EQ(after, word);
  memory->write(0x3000, &word, sizeof word);
}

}  // namespace
}  // namespace vm::accel
