// A multiboot guest on a small PC, on every backend that can make one here.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/x86_irqchip.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/accel/machine/pc_machine.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

using namespace std::chrono_literals;

/// A multiboot image that says itself where it goes, `code` first executed at 0x100020.
boot::Image multiboot(const std::vector<std::uint8_t>& code) {
  boot::Image image{"guest", {}};
  constexpr std::uint32_t magic = 0x1BADB002, flags = 1 << 16, at = 0x100000;
  for (const std::uint32_t word : {magic, flags, 0 - (magic + flags), at, at, 0U, 0U, at + 32})
    for (unsigned i = 0; i < 4; ++i) image.bytes.push_back(static_cast<std::byte>(word >> (8 * i)));
  for (const std::uint8_t byte : code) image.bytes.push_back(static_cast<std::byte>(byte));
  return image;
}

class Machine : public testing::Test {
 protected:
  void SetUp() override {
    try {
      hypervisor_ = create_hypervisor();
    } catch (const NotSupported& error) {
      GTEST_SKIP() << error.what();
    }
    if (hypervisor_->architecture() != Architecture::x86_64) GTEST_SKIP() << "the guest code is x86";
  }

  std::unique_ptr<PcMachine> machine(unsigned cpus = 1) {
    PcOptions options;
    options.memory = 4 << 20;
    options.cpus = cpus;
    options.serial = output_;
    return std::make_unique<PcMachine>(hypervisor_, options);
  }

  static LoopOptions within(std::chrono::nanoseconds time) {
    LoopOptions options;
    options.timeout = time;
    return options;
  }

  std::shared_ptr<Hypervisor> hypervisor_;
  std::shared_ptr<BufferSink> output_ = std::make_shared<BufferSink>();
};

TEST_F(Machine, AGuestPrintsAndEndsWithItsStatus) {
  const auto pc = machine();
  // mov dx, 0x3f8; mov al, 'o'; out dx, al; mov al, 'k'; out dx, al; mov al, 5; out 0xf4, al; hlt
  const auto loaded =
      pc->load(multiboot({0x66, 0xBA, 0xF8, 0x03, 0xB0, 'o', 0xEE, 0xB0, 'k', 0xEE, 0xB0, 5, 0xE6, 0xF4}));
  EXPECT_EQ(loaded.kind, boot::ImageKind::multiboot);
  const LoopResult result = pc->run(within(30s));
  ASSERT_TRUE(result.stop) << exit_name(result.exit);
  EXPECT_EQ(result.stop->status, 11U);
  EXPECT_EQ(output_->text(), "ok");
  EXPECT_TRUE(pc->stop()->requested());
  pc->stop()->clear();
}

TEST_F(Machine, TheSerialPortRaisesItsInterrupt) {
  const auto pc = machine();
  // OUT2 and the interrupt of an empty transmitter: IRQ 4 waits at the PIC. out 0x20, OCW3; in al, 0x20; out 0xf4, al
  pc->load(multiboot({0x66, 0xBA, 0xFC, 0x03, 0xB0, 0x08, 0xEE, 0x66, 0xBA, 0xF9, 0x03, 0xB0,
                      0x02, 0xEE, 0xB0, 0x0A, 0xE6, 0x20, 0xE4, 0x20, 0xE6, 0xF4, 0xF4}));
  const LoopResult result = pc->run(within(30s));
  ASSERT_TRUE(result.stop) << exit_name(result.exit);
  EXPECT_NE((result.stop->status >> 1) & 0x10, 0U);
}

TEST_F(Machine, ThePicsAreInitializedAsByFirmware) {
  const auto pc = machine();
  const auto chips = pc->vm()->x86_irqchip();
  EXPECT_EQ(chips->pic(IrqController::pic_master).irq_base, 0x08);
  EXPECT_EQ(chips->pic(IrqController::pic_slave).irq_base, 0x70);
}

TEST_F(Machine, EachProcessorKnowsItsPlace) {
  const auto pc = machine(3);
  for (unsigned id = 0; id < 3; ++id) {
    const CpuidTable table = pc->vcpus()[id]->x86()->cpuid();
    ASSERT_NE(table.find(1), nullptr);
    EXPECT_EQ(table.find(1)->ebx >> 24, id);
    EXPECT_TRUE(table.has("hypervisor"));
  }
  pc->load(multiboot({0xEB, 0xFE}));
  const LoopResult result = pc->run(within(30ms));
  EXPECT_TRUE(std::holds_alternative<Timeout>(result.exit)) << exit_name(result.exit);
  pc->close();
  EXPECT_THROW(pc->run(), ClosedError);
}

TEST_F(Machine, SizesAreChecked) {
  PcOptions options;
  options.cpus = 0;
  EXPECT_THROW(PcMachine(hypervisor_, options), InvalidConfig);
  options.cpus = 256;
  EXPECT_THROW(PcMachine(hypervisor_, options), InvalidConfig);
  options.cpus = 1;
  options.memory = 12345;
  EXPECT_THROW(PcMachine(hypervisor_, options), InvalidConfig);
}

}  // namespace
}  // namespace vm::accel
