// The balloon, guest_memfds, and slots at their limits.

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "real_mode_guest.hpp"
#include "vm/accel/hypervisor/balloon.hpp"
#include "vm/accel/hypervisor/guest_memfds.hpp"

namespace vm::accel {
namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint64_t mib = 1 << 20;
using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

void fill(mem::GuestMemory& memory, std::uint64_t paddr, std::uint64_t size) {
  const std::vector<std::byte> source(size, std::byte{0xA5});
  memory.write(paddr, source.data(), size);
}

int byte_at(const mem::GuestMemory& memory, std::uint64_t paddr) {
  std::byte value{};
  memory.read(paddr, &value, 1);
  return static_cast<int>(value);
}

class Memory : public RealMode {};

TEST_F(Memory, ABalloonCountsWhatIsInItAndMeasuresTheRest) {
  const auto ram = mem::GuestMemory::memfd(4 * mib, mib, "ram", mem::HugePages::none);
  vm_->map(*ram);
  fill(*ram, mib, 4 * mib);
  const auto balloon = vm_->balloon();
  EXPECT_EQ(vm_->balloon(), balloon);
  const BalloonStats before = balloon->stats();
  EXPECT_EQ(before.memory_bytes, 5 * mib);
  EXPECT_GE(before.resident_bytes, 4 * mib);

  balloon->inflate(2 * mib, mib);
  balloon->inflate_pages({3 * mib / page + 1, 3 * mib / page, 4 * mib / page});
  EXPECT_EQ(balloon->ranges(), (Ranges{{2 * mib, mib + 2 * page}, {4 * mib, page}}));
  BalloonStats stats = balloon->stats();
  EXPECT_EQ(stats.inflated_pages, 256U + 3);
  EXPECT_EQ(stats.inflated_bytes, (256U + 3) * page);
  EXPECT_EQ(stats.resident_bytes, before.resident_bytes - stats.inflated_bytes);
  EXPECT_EQ(byte_at(*ram, 2 * mib), 0);
  EXPECT_EQ(byte_at(*ram, 2 * mib - 1), 0xA5);

  fill(*ram, 2 * mib, page);  // a guest that does not keep away from it
  EXPECT_EQ(balloon->stats().resident_bytes, stats.resident_bytes + page);
  balloon->inflate(2 * mib, page);  // in already, and given back again
  EXPECT_EQ(balloon->stats().resident_bytes, stats.resident_bytes);
  EXPECT_EQ(balloon->stats().inflated_pages, stats.inflated_pages);
  EXPECT_EQ(balloon->stats().inflations, 256U + 3 + 1);

  balloon->deflate(2 * mib + page, 2 * page);
  EXPECT_EQ(balloon->ranges().size(), 3U);
  EXPECT_EQ(balloon->stats().deflations, 2U);
  EXPECT_EQ(balloon->stats().resident_bytes, stats.resident_bytes);  // nobody touched them
  balloon->deflate(mib, 4 * mib);
  stats = balloon->stats();
  EXPECT_EQ(stats.inflated_pages, 0U);
  EXPECT_EQ(stats.deflations, 256U + 3);
}

TEST_F(Memory, DeflatingCanPopulate) {
  const auto ram = mem::GuestMemory::memfd(mib, mib, "ram", mem::HugePages::none);
  vm_->map(*ram);
  fill(*ram, mib, mib);
  const auto balloon = vm_->balloon();
  balloon->inflate(mib, mib);
  EXPECT_EQ(ram->resident(mib, mib), 0U);
  try {
    balloon->deflate_pages({mib / page, mib / page + 1}, true);
  } catch (const NotSupported& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_EQ(ram->resident(mib, mib), 2 * page);
  EXPECT_EQ(balloon->ranges(), (Ranges{{mib + 2 * page, mib - 2 * page}}));
}

TEST_F(Memory, ARunningGuestSeesZerosInTheBalloon) {
  // again: mov al, [0x4000]; or al, al; jnz again; hlt
  const auto vcpu = vcpu_with({0xA0, 0x00, 0x40, 0x08, 0xC0, 0x75, 0xF9, 0xF4});
  fill(*memory_, 0x4000, page);
  std::atomic<bool> running{false};
  std::thread guest([&] {
    vcpu->attach();
    running = true;
    EXPECT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  });
  while (!running.load()) std::this_thread::yield();
  vm_->balloon()->inflate(0x4000, page);
  guest.join();
}

TEST_F(Memory, ABalloonRefusesBeforeAnythingChanges) {
  const auto balloon = vm_->balloon();
  const auto rom = mem::GuestMemory::memfd(mib, mib, "rom", mem::HugePages::none);
  vm_->map(*rom, {true, false});
  fill(*memory_, 0, mib);
  fill(*rom, mib, mib);
  EXPECT_THROW(balloon->inflate(0, 100), InvalidConfig);
  EXPECT_THROW(balloon->inflate(100, page), InvalidConfig);
  EXPECT_THROW(balloon->inflate(16 * mib, page), OutOfRange);
  EXPECT_THROW(balloon->inflate(mib, page), AccessViolation);
  EXPECT_THROW(balloon->inflate_pages({1, mib / page}), AccessViolation);
  EXPECT_THROW(balloon->inflate_pages({1, UINT64_MAX}), OutOfRange);
  EXPECT_THROW(balloon->deflate(1, page), InvalidConfig);
  EXPECT_THROW(balloon->deflate(0 - page, 2 * page), OutOfRange);
  EXPECT_EQ(balloon->stats().inflations, 0U);
  EXPECT_EQ(byte_at(*memory_, page), 0xA5);
  EXPECT_EQ(byte_at(*rom, mib), 0xA5);
  vm_->close();
  EXPECT_THROW(balloon->stats(), ClosedError);
  EXPECT_THROW(balloon->ranges(), ClosedError);
  EXPECT_THROW(vm_->balloon(), ClosedError);
  vm_.reset();
  EXPECT_THROW(balloon->inflate(0, page), ClosedError);
}

TEST_F(Memory, AGuestRunsInAGuestMemfd) {
  std::shared_ptr<mem::GuestMemory> memory;
  try {
    memory = vm_->guest_memfds()->create(mib, mib);
  } catch (const NotSupported& error) {
    EXPECT_NE(std::string(error.what()).find("KVM_CAP_"), std::string::npos);
    GTEST_SKIP() << error.what();
  }
  vm_->map(*memory);
  EXPECT_EQ(vm_->slots()[1].name, "guest_memfd");
  // mov byte [0x10], 0x5A with its data segment in the guest_memfd; hlt
  const auto vcpu = vcpu_with({0xC6, 0x06, 0x10, 0x00, 0x5A, 0xF4}, mib);
  EXPECT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  EXPECT_EQ(byte_at(*memory, mib + 0x10), 0x5A);
  vm_->balloon()->inflate(mib, mib);
  EXPECT_EQ(byte_at(*memory, mib + 0x10), 0);

  EXPECT_THROW(vm_->set_flags(mib, {false, true}), NotSupported);
  ASSERT_EQ(vm_->slots().size(), 2U);
  fill(*memory, mib, page);
  vm_->move(mib, 2 * mib);  // KVM takes the slot away and adds another
  EXPECT_EQ(byte_at(*vm_->memory(), 2 * mib), 0xA5);
  vm_->unmap(2 * mib);
  vm_->map(*memory);
  const auto other = hypervisor_->create_vm();
  other->map(*memory);  // as any memory of this process
}

TEST_F(Memory, WhatTheKernelLacksIsNamed) {
  const auto memfds = vm_->guest_memfds();
  EXPECT_THROW(memfds->create(100, 0), InvalidConfig);
  EXPECT_THROW(memfds->set_private(1, page, true), InvalidConfig);
  if (!memfds->has_private()) {
    try {
      memfds->set_private(0, page, true);
      FAIL();
    } catch (const NotSupported& error) {
      EXPECT_NE(std::string(error.what()).find("KVM_CAP_MEMORY_ATTRIBUTES"), std::string::npos) << error.what();
    }
  }
  const auto vcpu = vcpu_with(hlt);
  EXPECT_THROW(vcpu->pre_fault(1, page), InvalidConfig);
  try {
    vcpu->pre_fault(0, mib);
    EXPECT_EQ(memory_->resident(0, mib), mib);
    EXPECT_THROW(vcpu->pre_fault(64 * mib, page), PlatformError);
  } catch (const NotSupported& error) {
    EXPECT_NE(std::string(error.what()).find("KVM_CAP_PRE_FAULT_MEMORY"), std::string::npos) << error.what();
  }
}

TEST_F(Memory, OneMemoryCanBeSeenAtTwoAddresses) {
  vm_->map(*memory_, {}, 2 * mib);
  // mov byte [0x10], 0x5A through the second address; hlt
  const auto vcpu = vcpu_with({0xC6, 0x06, 0x10, 0x40, 0x5A, 0xF4}, 2 * mib);
  EXPECT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  EXPECT_EQ(byte_at(*memory_, 0x4010), 0x5A);
  EXPECT_EQ(byte_at(*vm_->memory(), 0x4010), 0x5A);
  vm_->balloon()->inflate(0x4000, page);
  EXPECT_EQ(byte_at(*vm_->memory(), 2 * mib + 0x4010), 0);
  vm_->unmap(0);
  EXPECT_EQ(vm_->slots().size(), 1U);
}

TEST_F(Memory, DozensOfSlotsComeAndGo) {
  constexpr std::uint64_t count = 100;
  const auto ram = mem::GuestMemory::anonymous(page);
  for (std::uint64_t i = 0; i < count; ++i) vm_->map(*ram, {}, (2 + 2 * i) * mib);
  EXPECT_EQ(vm_->slots().size(), count + 1);
  for (std::uint64_t i = 0; i < count; i += 2) vm_->unmap((2 + 2 * i) * mib);
  for (std::uint64_t i = 0; i < count; i += 2) vm_->map(*ram, {}, (3 + 2 * i) * mib);
  const std::vector<MemorySlot> slots = vm_->slots();
  EXPECT_EQ(slots.size(), count + 1);
  std::vector<bool> taken(count + 1);
  for (const MemorySlot& slot : slots) {
    ASSERT_LT(slot.id, taken.size());
    EXPECT_FALSE(taken[slot.id]);
    taken[slot.id] = true;
  }
  const auto vcpu = vcpu_with({0xC6, 0x06, 0x10, 0x00, 0x5A, 0xF4}, 3 * mib);
  EXPECT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  EXPECT_EQ(byte_at(*ram, 0x10), 0x5A);
}

TEST_F(Memory, AddressesThatCannotBeMappedAreRefused) {
  const auto ram = mem::GuestMemory::anonymous(page);
  EXPECT_THROW(vm_->map(*ram, {}, mib + 1), InvalidConfig);
  EXPECT_THROW(vm_->map(*mem::GuestMemory::anonymous(page + 1, mib)), InvalidConfig);
  EXPECT_THROW(vm_->map(*ram, {}, mib - page), InvalidConfig);
  EXPECT_THROW(vm_->map(*ram, {}, 0 - page / 2), InvalidConfig);
  EXPECT_THROW(vm_->move(0, 1), InvalidConfig);
  EXPECT_EQ(vm_->slots().size(), 1U);
}

}  // namespace
}  // namespace vm::accel
