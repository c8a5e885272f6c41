// Accesses that end in the hypervisor, and the events that tell of them.

#include "vm/accel/hypervisor/io_events.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>

#include "real_mode_guest.hpp"
#include "vm/accel/hypervisor/kernel_device.hpp"

namespace vm::accel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t device = 0x10'0000;  // beyond the memory

class IoEventsOf : public RealMode {
 protected:
  void SetUp() override {
    RealMode::SetUp();
    if (!IsSkipped()) io_ = vm_->io_events();
  }

  std::shared_ptr<IoEvents> io_;
  const std::shared_ptr<EventFd> event_ = std::make_shared<EventFd>();
};

TEST_F(IoEventsOf, APortRingsABell) {
  io_->attach({IoSpace::port, 0x50, 1, {}}, event_);
  const auto vcpu = vcpu_with(out(0x50, 1) + out(0x50, 2) + out(reached) + out(0x50) + hlt);
  next_out(vcpu, reached);
  EXPECT_EQ(event_->read(), 2U);
  io_->detach({IoSpace::port, 0x50, 1, {}});
  next_out(vcpu, 0x50);
  EXPECT_EQ(event_->read(), std::nullopt);
}

TEST_F(IoEventsOf, OnlyTheValueThatIsAskedForRings) {
  const auto other = std::make_shared<EventFd>();
  io_->attach({IoSpace::port, 0x50, 1, 2}, event_);
  io_->attach({IoSpace::port, 0x50, 1, 3}, other);
  EXPECT_THROW(io_->attach({IoSpace::port, 0x50, 1, 2}, other), InvalidConfig);
  EXPECT_THROW(io_->attach({IoSpace::port, 0x50, 1, {}}, other), InvalidConfig);
  const auto vcpu = vcpu_with(out(0x50, 1) + out(0x50, 2) + out(0x50, 3) + hlt);
  EXPECT_EQ(next_out(vcpu, 0x50), 1);
  ASSERT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  EXPECT_EQ(event_->read(), 1U);
  EXPECT_EQ(other->read(), 1U);
  EXPECT_EQ(io_->attached().size(), 2U);
}

TEST_F(IoEventsOf, MemoryRingsWithAndWithoutAValue) {
  const auto any = std::make_shared<EventFd>();
  io_->attach({IoSpace::memory, device, 4, 0x1234'5678}, event_);
  io_->attach({IoSpace::memory, device + 8, 0, {}}, any);
  const auto vcpu = vcpu_with(store(0, 0x1234'5678) + store(0, 1) + store(8, 7) + hlt, device);
  const Exit missed = run(vcpu);
  ASSERT_TRUE(std::holds_alternative<MmioWrite>(missed)) << exit_name(missed);
  EXPECT_EQ(std::get<MmioWrite>(missed).paddr, device);
  ASSERT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  EXPECT_EQ(event_->read(), 1U);
  EXPECT_EQ(any->read(), 1U);
}

TEST_F(IoEventsOf, WhatNoWriteCanBeIsRefused) {
  const IoEvent wrong[] = {
      {IoSpace::port, 0x10000, 1, {}},    {IoSpace::port, 0xFFFF, 2, {}},       {IoSpace::port, 0, 8, {}},
      {IoSpace::memory, 0, 3, {}},        {IoSpace::memory, UINT64_MAX, 4, {}}, {IoSpace::memory, 0, 0, 1},
      {IoSpace::memory, 0, 2, 0x1'0000U},
  };
  for (const IoEvent& event : wrong) EXPECT_THROW(io_->attach(event, event_), InvalidConfig) << io_event_text(event);
  EXPECT_THROW(io_->attach({IoSpace::port, 0x50, 1, {}}, nullptr), InvalidConfig);
  EXPECT_THROW(io_->detach({IoSpace::port, 0x50, 1, {}}), InvalidConfig);
  EXPECT_TRUE(io_->attached().empty());
}

TEST_F(IoEventsOf, WritesWaitInOrder) {
  const CoalescedZone memory{IoSpace::memory, device, 0x100};
  const CoalescedZone port{IoSpace::port, 0x50, 2};
  io_->coalesce(memory);
  io_->coalesce(port);
  EXPECT_THROW(io_->coalesce({IoSpace::memory, device + 0xFF, 1}), InvalidConfig);
  EXPECT_TRUE(io_->collect().empty());
  const auto vcpu = vcpu_with(store(0, 1) + out(0x51, 9) + store(0xFC, 0xAABB'CCDD) + store(0x100, 4) + hlt, device);
  ASSERT_TRUE(std::holds_alternative<MmioWrite>(run(vcpu)));  // the one outside
  const std::vector<CoalescedWrite> writes = io_->collect();
  ASSERT_EQ(writes.size(), 3U);
  EXPECT_EQ(writes[0].address, device);
  EXPECT_EQ(writes[1].space, IoSpace::port);
  EXPECT_EQ(writes[1].address, 0x51U);
  EXPECT_EQ(writes[1].size, 1);
  EXPECT_EQ(static_cast<int>(writes[1].data[0]), 9);
  EXPECT_EQ(writes[2].address, device + 0xFC);
  EXPECT_EQ(writes[2].size, 4);
  std::uint32_t value = 0;
  std::memcpy(&value, writes[2].data.data(), sizeof value);
  EXPECT_EQ(value, 0xAABB'CCDDU);
  EXPECT_TRUE(io_->collect().empty());
  EXPECT_EQ(io_->zones().size(), 2U);
  io_->stop_coalescing(memory);
  EXPECT_THROW(io_->stop_coalescing(memory), InvalidConfig);
  EXPECT_EQ(io_->zones().size(), 1U);
}

TEST_F(IoEventsOf, AFullRingExits) {
  io_->coalesce({IoSpace::memory, device, 0x100});
  // mov cx, 300; again: mov [0], cx; loop again; hlt
  const auto vcpu = vcpu_with({0xB9, 0x2C, 0x01, 0x89, 0x0E, 0x00, 0x00, 0xE2, 0xFA, 0xF4}, device);
  std::vector<int> seen;
  const auto note = [&](const std::byte* data) {
    std::uint16_t value = 0;
    std::memcpy(&value, data, sizeof value);
    seen.push_back(value);
  };
  for (;;) {
    const Exit exit = run(vcpu);
    const std::vector<CoalescedWrite> waiting = io_->collect();  // these were before the exit
    for (const CoalescedWrite& write : waiting) note(write.data.data());
    if (std::holds_alternative<Hlt>(exit)) break;
    ASSERT_TRUE(std::holds_alternative<MmioWrite>(exit)) << exit_name(exit);
    EXPECT_GT(waiting.size(), 100U);
    note(std::get<MmioWrite>(exit).data.data());
  }
  ASSERT_EQ(seen.size(), 300U);
  for (int i = 0; i < 300; ++i) ASSERT_EQ(seen[static_cast<std::size_t>(i)], 300 - i);
}

TEST_F(IoEventsOf, ZonesThatCannotBeAreRefused) {
  EXPECT_THROW(io_->coalesce({IoSpace::memory, 0, 0}), InvalidConfig);
  EXPECT_THROW(io_->coalesce({IoSpace::memory, 0, 0x8000'0000}), InvalidConfig);
  EXPECT_THROW(io_->coalesce({IoSpace::memory, UINT64_MAX, 2}), InvalidConfig);
  EXPECT_THROW(io_->coalesce({IoSpace::port, 0xFFFF, 2}), InvalidConfig);
}

TEST_F(IoEventsOf, DevicesOfTheKernelAnswer) {
  try {
    const auto vfio = vm_->create_device(KernelDeviceKind::vfio);
    EXPECT_GE(vfio->descriptor(), 0);
    EXPECT_TRUE(vfio->has(1, 1));  // KVM_DEV_VFIO_FILE, KVM_DEV_VFIO_FILE_ADD
    EXPECT_FALSE(vfio->has(77, 1));
    EXPECT_THROW(vfio->get(1, 1, 5000), InvalidConfig);
    EXPECT_THROW(vfio->get(77, 1, 8), VmError);
    EXPECT_THROW(vfio->set(77, 1, {std::byte{1}}), VmError);
  } catch (const NotSupported& error) {
    EXPECT_NE(std::string(error.what()).find("KVM"), std::string::npos) << error.what();
  }
  EXPECT_THROW(vm_->create_device(KernelDeviceKind::arm_vgic_v2), NotSupported);
}

TEST(Event, CountsAndForgets) {
  EventFd event(3);
  EXPECT_TRUE(event.wait(0ns));
  EXPECT_EQ(event.read(), 3U);
  EXPECT_EQ(event.read(), std::nullopt);
  EXPECT_FALSE(event.wait(1ms));
  event.write(UINT64_MAX - 1);
  EXPECT_THROW(event.write(), ResourceExhausted);
  EXPECT_THROW(event.write(UINT64_MAX), InvalidConfig);
  EXPECT_THROW(EventFd{UINT64_MAX}, InvalidConfig);
  EXPECT_EQ(event.read(), UINT64_MAX - 1);
  EventFd semaphore(2, true);
  EXPECT_EQ(semaphore.read(), 1U);
  EXPECT_EQ(semaphore.read(), 1U);
  EXPECT_EQ(semaphore.read(), std::nullopt);
}

TEST(Event, DuplicatesShareTheCount) {
  EventFd event;
  const auto copy = EventFd::duplicate_of(event.descriptor());
  EXPECT_NE(copy->descriptor(), event.descriptor());
  event.write(5);
  EXPECT_EQ(copy->read(), 5U);
  EXPECT_EQ(event.read(), std::nullopt);
  EXPECT_THROW(EventFd::duplicate_of(-1), InvalidConfig);
  const mem::UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_THROW(EventFd::duplicate_of(file.get()), InvalidConfig);
  const mem::UniqueFd blocking(::eventfd(0, EFD_CLOEXEC));
  EXPECT_THROW(EventFd::duplicate_of(blocking.get()), InvalidConfig);
}

}  // namespace
}  // namespace vm::accel
