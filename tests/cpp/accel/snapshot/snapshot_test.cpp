// Going back to a moment: everything is as it was then, and goes on as it did.

#include "vm/accel/snapshot/snapshot.hpp"

#include <cstring>
#include <map>

#include "guest.hpp"
#include "vm/core/address.hpp"

namespace vm::accel {
namespace {

/// The records of a saved vCPU or VM of KVM, by tag.
std::map<std::uint32_t, std::vector<std::byte>> records(const std::vector<std::byte>& state) {
  std::map<std::uint32_t, std::vector<std::byte>> result;
  for (std::size_t at = 4; at < state.size();) {
    std::uint32_t head[2];
    std::memcpy(head, &state[at], sizeof head);
    at += sizeof head;
    result[head[0]].assign(state.begin() + static_cast<std::ptrdiff_t>(at),
                           state.begin() + static_cast<std::ptrdiff_t>(at + head[1]));
    at += head[1];
  }
  return result;
}

constexpr std::uint32_t sregs_tag = 2;
constexpr std::uint32_t sregs2_tag = 3;
constexpr std::ptrdiff_t cr0_to_cr4 = 8 * 24 + 2 * 16;  // of both, after segments and tables
constexpr std::ptrdiff_t cr8_at = cr0_to_cr4 + 32;
constexpr std::uint32_t xsave_tag = 8;
constexpr std::uint32_t msr_tag = 10;
constexpr std::uint32_t lapic_tag = 9;
constexpr std::uint32_t irqchips_tag = 0x100;
constexpr std::uint32_t clock_tag = 0x102;
constexpr std::uint32_t needs_tag = 0x104;

/// Everything of a vCPU but its time-stamp counter, which goes on, and whether the processor says that the FPU and the
/// SSE registers are in use (XSTATE_BV bits 0 and 1): with initial values it may say either (Intel SDM vol. 1 §13.6).
std::map<std::uint32_t, std::vector<std::byte>> without_time(const std::vector<std::byte>& state) {
  auto result = records(state);
  constexpr std::size_t xstate_bv = 512;
  if (std::vector<std::byte>& xsave = result[xsave_tag]; xsave.size() > xstate_bv) xsave[xstate_bv] &= ~std::byte{3};
  std::vector<std::byte>& msrs = result[msr_tag];
  for (std::size_t at = 0; at + 16 <= msrs.size(); at += 16) {
    std::uint32_t index = 0;
    std::memcpy(&index, &msrs[at], sizeof index);
    if (index == 0x10) std::fill_n(msrs.begin() + static_cast<std::ptrdiff_t>(at), 16, std::byte{0});
  }
  return result;
}

/// Where two states differ first, in words: a whole state in a message would say nothing.
std::string difference(const std::map<std::uint32_t, std::vector<std::byte>>& is,
                       const std::map<std::uint32_t, std::vector<std::byte>>& should_be) {
  if (is.size() != should_be.size()) return "other records";
  for (const auto& [tag, bytes] : is) {
    const auto other = should_be.find(tag);
    if (other == should_be.end() || other->second.size() != bytes.size()) return "record " + std::to_string(tag);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] == other->second[i]) continue;
      return "record " + std::to_string(tag) + " at byte " + std::to_string(i) + ": " +
             hex(static_cast<std::uint64_t>(bytes[i])) + " instead of " +
             hex(static_cast<std::uint64_t>(other->second[i]));
    }
  }
  return "";
}

std::vector<std::byte> with_record(const std::vector<std::byte>& state, std::uint32_t tag, const void* data,
                                   std::size_t size) {
  std::vector<std::byte> result(state.begin(), state.begin() + 4);
  const std::uint32_t head[2] = {tag, static_cast<std::uint32_t>(size)};
  const auto append = [&](const void* from, std::size_t count) {
    const auto* bytes = static_cast<const std::byte*>(from);
    result.insert(result.end(), bytes, bytes + count);
  };
  append(head, sizeof head);
  append(data, size);
  append(state.data() + 4, state.size() - 4);
  return result;
}

using SnapshotTest = GuestTest;

TEST_F(SnapshotTest, EverythingIsAsItWasAndGoesOnAsItDid) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  run(*vcpu, 3);
  const auto snapshot = Snapshot::take(*vm_);
  const auto before = bytes_of(*vm_);
  const auto state = without_time(snapshot->parts().vcpus[0].state);
  EXPECT_EQ(snapshot->memory_size(), size);
  const std::vector<int> told = run(*vcpu, 20);
  EXPECT_EQ(told.front(), 4);
  const auto after = bytes_of(*vm_);
  EXPECT_NE(before, after);
  for (int round = 0; round < 3; ++round) {
    const RestoreResult result = snapshot->restore(*vm_);
    EXPECT_EQ(result.pages, 20U);
    EXPECT_FALSE(result.compared);
    EXPECT_EQ(bytes_of(*vm_), before);
    EXPECT_EQ(difference(without_time(Snapshot::take(*vm_, false)->parts().vcpus[0].state), state), "");
    EXPECT_EQ(run(*vcpu, 20), told);
    EXPECT_EQ(bytes_of(*vm_), after);
  }
}

TEST_F(SnapshotTest, VectorRegistersOfALongModeGuestComeBack) {
  vm_->map(*memory_);
  // inc rax; movq xmm0, rax; out dx, al; movq rbx, xmm0; out dx, al; jmp to the start
  const auto vcpu =
      vcpu_with({0x48, 0xFF, 0xC0, 0x66, 0x48, 0x0F, 0x6E, 0xC0, 0xEE, 0x66, 0x48, 0x0F, 0x7E, 0xC3, 0xEE, 0xEB, 0xEF});
  // One gigabyte page for everything would need CPUID; a 2 MiB page does not. 7: present, writable, user; 0x80: a page.
  const std::uint64_t tables[3] = {0x3007, 0x4007, 0x87};
  for (std::uint64_t i = 0; i < 3; ++i) memory_->write(0x2000 + i * page, &tables[i], 8);
  X86SpecialRegs sregs = vcpu->x86()->sregs();
  sregs.cr3 = 0x2000;
  sregs.cr4 = (1 << 5) | (1 << 9);  // PAE, OSFXSR
  sregs.cr0 = 0x8000'0001;          // paging, protection
  sregs.efer = 0x500;               // long mode enabled and active
  sregs.cs.long_mode = true;
  sregs.cs.type = 11;
  sregs.ss.type = 3;
  for (X86Segment* segment : {&sregs.cs, &sregs.ss}) {
    segment->dpl = 3;
    segment->selector = 3;
    segment->granularity = true;
    segment->limit = 0xFFFF'FFFF;
  }
  vcpu->x86()->set_sregs(sregs);
  X86Regs regs = vcpu->x86()->regs();
  regs.rflags = 0x3002;  // ring 3 may use ports
  vcpu->x86()->set_regs(regs);
  const Exit exit = vcpu->run();
  if (!std::holds_alternative<IoOut>(exit)) GTEST_SKIP() << "no native long mode here: " << exit_name(exit);
  const auto snapshot = Snapshot::take(*vm_);
  run(*vcpu, 3);  // xmm0 is 2, then 3
  snapshot->restore(*vm_);
  run(*vcpu, 1);
  vcpu->complete();
  EXPECT_EQ(vcpu->x86()->regs().rbx, 1U);
  EXPECT_EQ(vcpu->x86()->sregs().efer, 0x500U);
}

TEST_F(SnapshotTest, WritesOfTheHostComeBackWhenTheyAreTold) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  const auto snapshot = Snapshot::take(*vm_);
  const auto before = bytes_of(*vm_);
  vm_->write(0x5FFF, "xy", 2);  // over a page boundary
  memory_->write(0x9000, "z", 1);
  vm_->mark_dirty(0x9000, 1);
  EXPECT_EQ(snapshot->restore(*vm_).pages, 3U);
  EXPECT_EQ(bytes_of(*vm_), before);
  memory_->write(0x9000, "z", 1);
  EXPECT_EQ(snapshot->restore(*vm_).pages, 0U);
  EXPECT_NE(bytes_of(*vm_), before);
  const RestoreResult result = snapshot->restore(*vm_, RestorePages::all);
  EXPECT_EQ(result.pages, 1U);
  EXPECT_TRUE(result.compared);
  EXPECT_EQ(bytes_of(*vm_), before);
}

TEST_F(SnapshotTest, WhoReadsTheDirtyLogTakesNothingAway) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  const auto snapshot = Snapshot::take(*vm_);
  const auto before = bytes_of(*vm_);
  run(*vcpu, 4);
  EXPECT_EQ(vm_->dirty_log()->take(0).count(), 4U);
  run(*vcpu, 2);
  EXPECT_EQ(snapshot->restore(*vm_).pages, 6U);
  EXPECT_EQ(bytes_of(*vm_), before);
}

TEST_F(SnapshotTest, RingsAndManualLogsTellAsMuchAsBitmaps) {
  for (const DirtyMethod method : {DirtyMethod::manual, DirtyMethod::ring}) {
    vm_ = hypervisor_->create_vm();
    memory_ = mem::GuestMemory::anonymous(size);
    try {
      if (method == DirtyMethod::ring) vm_->dirty_log()->use_ring(1024);
      if (method == DirtyMethod::manual) vm_->dirty_log()->use_manual();
    } catch (const NotSupported& error) {
      GTEST_SKIP() << error.what();
    }
    vm_->map(*memory_);
    const auto vcpu = vcpu_with(write_pages);
    const auto snapshot = Snapshot::take(*vm_);
    const auto before = bytes_of(*vm_);
    for (int round = 0; round < 3; ++round) {
      run(*vcpu, 5);
      if (method == DirtyMethod::ring) {
        EXPECT_EQ(vm_->dirty_log()->collect().size(), 5U);
      }
      run(*vcpu, 5);
      EXPECT_EQ(snapshot->restore(*vm_).pages, 10U) << dirty_method_name(method);
      EXPECT_EQ(bytes_of(*vm_), before);
    }
  }
}

TEST_F(SnapshotTest, TwoSnapshotsOfOneVm) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  const auto first = Snapshot::take(*vm_);
  run(*vcpu, 2);
  const auto second = Snapshot::take(*vm_);
  run(*vcpu, 2);
  RestoreResult result = first->restore(*vm_);
  EXPECT_TRUE(result.compared);
  EXPECT_EQ(result.pages, 4U);
  EXPECT_EQ(run(*vcpu, 1), (std::vector<int>{1}));
  EXPECT_EQ(first->restore(*vm_).pages, 1U);
  result = second->restore(*vm_);
  EXPECT_TRUE(result.compared);
  EXPECT_EQ(result.pages, 2U);
  EXPECT_EQ(run(*vcpu, 1), (std::vector<int>{3}));
}

TEST_F(SnapshotTest, AnExitThatWaitsIsForgotten) {
  vm_->map(*memory_);
  // Real mode: out dx, al; in al, dx; out dx, al; then with es:di, ecx in place: rep insb; then a loop.
  const auto vcpu = vcpu_with({0xEE, 0xEC, 0xEE, 0x66, 0xB9, 0x00, 0x10, 0x00, 0x00, 0xF3, 0x6E, 0xEB, 0xFE});
  run(*vcpu, 1);
  const auto snapshot = Snapshot::take(*vm_);
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(std::holds_alternative<IoIn>(vcpu->run()));
    EXPECT_THROW(Snapshot::take(*vm_), InvalidConfig);
    snapshot->restore(*vm_);
    EXPECT_TRUE(std::holds_alternative<Interrupted>(vcpu->last_exit()));
    EXPECT_THROW(vcpu->reply("x", 1), InvalidConfig);
    EXPECT_EQ(difference(without_time(Snapshot::take(*vm_, false)->parts().vcpus[0].state),
                         without_time(snapshot->parts().vcpus[0].state)),
              "");
    ASSERT_TRUE(std::holds_alternative<IoIn>(vcpu->run()));
    vcpu->reply("x", 1);
    EXPECT_EQ(run(*vcpu, 1), (std::vector<int>{'x'}));
    ASSERT_TRUE(std::holds_alternative<IoOut>(vcpu->run()));  // in the middle of rep outsb
    snapshot->restore(*vm_);
    EXPECT_EQ(difference(without_time(Snapshot::take(*vm_, false)->parts().vcpus[0].state),
                         without_time(snapshot->parts().vcpus[0].state)),
              "");
  }
}

TEST_F(SnapshotTest, ARefusedStateDoesNotStopTheVcpuForEver) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  run(*vcpu, 1);
  const std::vector<std::byte> good = vcpu->save_state()->bytes();
  std::vector<std::byte> bad = good;
  for (const std::uint32_t tag : {sregs_tag, sregs2_tag}) {
    const auto all = records(good);
    const auto found = all.find(tag);
    if (found == all.end()) continue;
    std::vector<std::byte> values = found->second;
    std::fill_n(values.begin() + cr0_to_cr4, 32, std::byte{0xFF});
    bad = with_record(bad, tag, values.data(), values.size());
  }
  vcpu->prepare_state(vm_->saver()->read_vcpu(bad));
  EXPECT_THROW(vcpu->restore_state(), PlatformError);
  EXPECT_TRUE(std::holds_alternative<IoOut>(vcpu->run()));
  std::vector<std::byte> high = records(good)[sregs_tag];
  high[cr8_at] = std::byte{0x10};
  EXPECT_THROW(vcpu->prepare_state(vm_->saver()->read_vcpu(with_record(good, sregs_tag, high.data(), high.size()))),
               InvalidConfig);
  EXPECT_TRUE(std::holds_alternative<IoOut>(vcpu->run()));
}

TEST_F(SnapshotTest, WhatDoesNotFitIsRefusedByName) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  const auto snapshot = Snapshot::take(*vm_);
  const auto other = hypervisor_->create_vm();
  try {
    snapshot->restore(*other);
    FAIL();
  } catch (const InvalidConfig& error) {
    EXPECT_NE(std::string(error.what()).find("0x0-0xfffff"), std::string::npos) << error.what();
  }
  other->map(*mem::GuestMemory::anonymous(size));
  EXPECT_THROW(snapshot->restore(*other), InvalidConfig);  // no vCPU
  SnapshotParts parts = snapshot->parts();
  const std::uint32_t word[4] = {7, 0, 1, 0xFFFF'FFFF};
  parts.vm_state = with_record(parts.vm_state, needs_tag, word, sizeof word);
  try {
    std::make_shared<Snapshot>(parts)->clone(*hypervisor_);
    FAIL();
  } catch (const InvalidConfig& error) {
    EXPECT_NE(std::string(error.what()).find("CPUID 0x7.0 ebx bits 0x"), std::string::npos) << error.what();
  }
  parts = snapshot->parts();
  parts.vcpus[0].state.resize(100);
  EXPECT_THROW(std::make_shared<Snapshot>(parts)->clone(*hypervisor_), InvalidConfig);
  parts = snapshot->parts();
  parts.backend = "hvf";
  EXPECT_THROW(std::make_shared<Snapshot>(parts)->restore(*vm_), InvalidConfig);
  parts = snapshot->parts();
  parts.slots[0].size *= 2;
  EXPECT_THROW(Snapshot{parts}, InvalidConfig);
  EXPECT_EQ(snapshot->restore(*vm_).pages, 0U);  // still fine
}

TEST_F(SnapshotTest, ControllersInTheKernelAreACopyToo) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  SnapshotParts parts = Snapshot::take(*vm_)->parts();
  // As if it came from a VM with interrupt controllers; their first state is all zeros.
  std::vector<std::byte> chips(3 * 520);
  for (std::size_t i = 0; i < 3; ++i) chips[i * 520] = static_cast<std::byte>(i);
  parts.vm_state = with_record(parts.vm_state, irqchips_tag, chips.data(), chips.size());
  const std::vector<std::byte> lapic(1024);
  parts.vcpus[0].state = with_record(parts.vcpus[0].state, lapic_tag, lapic.data(), lapic.size());
  const auto vm = std::make_shared<Snapshot>(parts)->clone(*hypervisor_);
  const auto snapshot = Snapshot::take(*vm);
  auto state = records(snapshot->parts().vm_state);
  ASSERT_EQ(state[irqchips_tag].size(), chips.size());
  EXPECT_EQ(records(snapshot->parts().vcpus[0].state)[lapic_tag].size(), 1024U);
  const std::vector<int> told = run(*vm->vcpus()[0], 5);
  EXPECT_EQ(snapshot->restore(*vm).pages, 5U);
  auto again = records(Snapshot::take(*vm, false)->parts().vm_state);
  EXPECT_NE(again[clock_tag], std::vector<std::byte>());
  again[clock_tag] = state[clock_tag];  // goes on
  EXPECT_EQ(again, state);
  EXPECT_EQ(run(*vm->vcpus()[0], 5), told);
  EXPECT_THROW(snapshot->restore(*vm_), InvalidConfig);  // which has none
}

TEST_F(SnapshotTest, AnotherThreadHasToAttachFirst) {
  vm_->map(*memory_);
  const auto vcpu = vcpu_with(write_pages);
  const auto snapshot = Snapshot::take(*vm_);
  vm_->close();
  EXPECT_THROW(snapshot->restore(*vm_), ClosedError);
  EXPECT_THROW(Snapshot::take(*vm_), ClosedError);
}

}  // namespace
}  // namespace vm::accel
