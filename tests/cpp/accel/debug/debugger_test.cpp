// Breakpoints, watchpoints and steps over known code. The code runs in real mode and in long mode at privilege levels 0
// and 3; where the machine's KVM cannot do a thing, which `probe_debug` finds out, the test says so and skips.

#include "vm/accel/debug/debugger.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/debug/virtual_memory.hpp"
#include "vm/accel/hypervisor/guest_debug.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t code_at = 0x1000;
constexpr std::uint64_t data_at = 0x5000;
constexpr std::uint64_t tables_at = 0x10000;
constexpr std::uint64_t high = 0x7000'0000'0000;  // where long mode sees the first megabyte once more

/// The same steps in the two encodings: 0 inc, 1 inc, 2 store to [0x5000], 3 inc, 4 load, 5 inc, 6 out 0x10, 7 hlt.
struct Code {
  std::vector<std::uint8_t> bytes;
  std::vector<std::uint64_t> at;
};
const Code real_code = {{0x40, 0x40, 0xA3, 0x00, 0x50, 0x40, 0x8B, 0x1E, 0x00, 0x50, 0x40, 0xE6, 0x10, 0xF4},
                        {0x1000, 0x1001, 0x1002, 0x1005, 0x1006, 0x100A, 0x100B, 0x100D}};
const Code long_code = {{0xFF, 0xC0, 0xFF, 0xC0, 0x89, 0x04, 0x25, 0x00, 0x50, 0x00, 0x00, 0xFF, 0xC0,
                         0x8B, 0x1C, 0x25, 0x00, 0x50, 0x00, 0x00, 0xFF, 0xC0, 0xE6, 0x10, 0xF4},
                        {0x1000, 0x1002, 0x1004, 0x100B, 0x100D, 0x1014, 0x1016, 0x1018}};

X86Segment segment(bool code, std::uint8_t level) {
  X86Segment s;
  s.limit = 0xFFFFFFFF;
  s.selector = static_cast<std::uint16_t>((code ? 8 : 16) | level);
  s.type = code ? 11 : 3;
  s.dpl = level;
  s.present = s.code_or_data = s.granularity = true;
  s.long_mode = code;
  s.db = !code;
  return s;
}

class Debugging : public testing::TestWithParam<DebugPlace> {
 protected:
  void SetUp() override {
    try {
      hypervisor_ = create_hypervisor();
    } catch (const NotSupported& error) {
      GTEST_SKIP() << error.what();
    }
    if (hypervisor_->architecture() != Architecture::x86_64) GTEST_SKIP() << "the guest code is x86";
    vm_ = hypervisor_->create_vm();
    memory_ = mem::GuestMemory::anonymous(1 << 20);
    vm_->map(*memory_);
    memory_->write(code_at, code().bytes.data(), code().bytes.size());
    vcpu_ = prepared();
    debugger_ = std::make_unique<Debugger>(vm_);
  }

  const Code& code() const { return GetParam() == DebugPlace::real ? real_code : long_code; }
  const DebugAbilities& can() { return debugger_->support()[GetParam()]; }

  std::shared_ptr<Vcpu> prepared() {
    auto vcpu = vm_->create_vcpu();
    X86SpecialRegs sregs = vcpu->x86()->sregs();
    X86Regs regs;
    regs.rip = code_at;
    regs.rsp = 0x8000;
    if (GetParam() == DebugPlace::real) {
      sregs.cs.base = 0;
      sregs.cs.selector = 0;
    } else {
      map_long_mode();
      const std::uint8_t level = GetParam() == DebugPlace::user ? 3 : 0;
      sregs.cs = segment(true, level);
      sregs.ds = sregs.es = sregs.ss = sregs.fs = sregs.gs = segment(false, level);
      sregs.cr0 = 0x80000011;
      sregs.cr3 = tables_at;
      sregs.cr4 = 0x20;
      sregs.efer = 0x500;
      regs.rflags |= 0x3000;  // IOPL 3: ports for everybody
    }
    vcpu->x86()->set_sregs(sregs);
    vcpu->x86()->set_regs(regs);
    return vcpu;
  }

  void map_long_mode() {
    std::uint64_t entry = 0;
    memory_->read(tables_at, &entry, sizeof entry);
    if (entry != 0) return;
    mem::paging::X86Config config;
    config.root = tables_at;
    mem::paging::AddressSpaceOptions options;
    options.tables = mem::paging::TableRange{tables_at + 0x1000, tables_at + 0xFFFF};
    mem::paging::AddressSpace space(memory_, config, options);
    const Access all = Access::read | Access::write | Access::execute;
    space.map({0, 0, 1 << 20, all, true, 4096});
    space.map({high, 0, 1 << 20, all, true, 4096});
  }

  std::uint8_t byte_at(std::uint64_t paddr) const {
    std::uint8_t byte = 0;
    memory_->read(paddr, &byte, 1);
    return byte;
  }
  std::uint64_t rax() { return vcpu_->x86()->regs().rax; }
  bool software() { return debugger_->support().software_breakpoint(GetParam()); }

  std::shared_ptr<Hypervisor> hypervisor_;
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<mem::GuestMemory> memory_;
  std::shared_ptr<Vcpu> vcpu_;
  std::unique_ptr<Debugger> debugger_;
};

#define SKIP_UNLESS(ability, what) \
  if (!(ability)) GTEST_SKIP() << what " does not work for this kind of guest code on this machine's KVM"

TEST_P(Debugging, StepsThroughKnownCode) {
  SKIP_UNLESS(can().single_step, "a single step");
  const std::vector<std::uint64_t> expected_rax = {1, 2, 2, 3, 3, 4};
  for (std::size_t i = 0; i < expected_rax.size(); ++i) {
    const Stop stop = debugger_->step();
    ASSERT_EQ(stop.reason, StopReason::step) << i << " " << exit_name(stop.exit);
    EXPECT_EQ(stop.pc, code().at[i + 1]);
    EXPECT_EQ(rax(), expected_rax[i]);
  }
  const Stop out = debugger_->step();
  ASSERT_EQ(out.reason, StopReason::exit);
  EXPECT_EQ(std::get<IoOut>(out.exit).port, 0x10);
  EXPECT_EQ(std::to_integer<int>(*std::get<IoOut>(out.exit).data), 4);
}

TEST_P(Debugging, SoftwareBreakpointsStopAndHide) {
  SKIP_UNLESS(software(), "a software breakpoint");
  const std::uint64_t where = code().at[3];
  const std::uint8_t original = byte_at(where);
  const Breakpoint point = debugger_->break_at(where, BreakpointKind::software);
  EXPECT_FALSE(point.hardware);
  EXPECT_EQ(byte_at(where), debugger_->support().trap_instruction());
  std::vector<std::uint8_t> seen(code().bytes.size());
  debugger_->read(code_at, seen.data(), seen.size());
  EXPECT_EQ(seen, code().bytes);

  const Stop stop = debugger_->run();
  ASSERT_EQ(stop.reason, StopReason::breakpoint) << exit_name(stop.exit);
  EXPECT_EQ(stop.id, point.id);
  EXPECT_EQ(stop.pc, where);
  EXPECT_EQ(rax(), 2U);
  EXPECT_EQ(debugger_->breakpoints().at(0).hits, 1U);
  // Past it, with the breakpoint still there afterwards.
  const Stop out = debugger_->run();
  ASSERT_EQ(out.reason, StopReason::exit);
  EXPECT_TRUE(std::holds_alternative<IoOut>(out.exit));
  EXPECT_EQ(byte_at(where), debugger_->support().trap_instruction());
  debugger_->remove(point.id);
  EXPECT_EQ(byte_at(where), original);
  EXPECT_THROW(debugger_->remove(point.id), OutOfRange);
}

TEST_P(Debugging, HardwareBreakpointsLeaveMemoryAlone) {
  SKIP_UNLESS(can().breakpoint, "a hardware breakpoint");
  const Breakpoint first = debugger_->break_at(code().at[1], BreakpointKind::hardware);
  const Breakpoint second = debugger_->break_at(code().at[4], BreakpointKind::hardware);
  EXPECT_EQ(byte_at(code().at[1]), code().bytes[code().at[1] - code_at]);
  const Stop one = debugger_->run();
  EXPECT_EQ(one.reason, StopReason::breakpoint);
  EXPECT_EQ(one.id, first.id);
  const Stop two = debugger_->run();
  EXPECT_EQ(two.id, second.id);
  EXPECT_EQ(two.pc, code().at[4]);
  for (int i = 0; i < 2; ++i) debugger_->break_at(0x3000 + static_cast<std::uint64_t>(i), BreakpointKind::hardware);
  EXPECT_THROW(debugger_->break_at(0x4000, BreakpointKind::hardware), ResourceExhausted);
  EXPECT_EQ(debugger_->breakpoints().size(), 4U);
}

TEST_P(Debugging, WatchpointsSeeWrites) {
  SKIP_UNLESS(can().watchpoint || can().single_step, "a watchpoint");
  const Watchpoint point = debugger_->watch(data_at, 2);
  EXPECT_EQ(point.hardware, can().watchpoint);
  const Stop stop = debugger_->run();
  ASSERT_EQ(stop.reason, StopReason::watchpoint) << exit_name(stop.exit);
  EXPECT_EQ(stop.id, point.id);
  EXPECT_EQ(stop.address, data_at);
  EXPECT_EQ(stop.pc, code().at[3]);
  EXPECT_EQ(byte_at(data_at), 2);
  EXPECT_EQ(debugger_->watchpoints().at(0).hits, 1U);
  EXPECT_EQ(debugger_->run().reason, StopReason::exit);
}

TEST_P(Debugging, BreakpointsAndSteppingWatchpointsTogether) {
  SKIP_UNLESS(can().single_step && (software() || can().breakpoint), "a step, or a breakpoint,");
  debugger_->watch(data_at, 1, false, true, WatchpointKind::stepping);
  debugger_->break_at(code().at[1]);
  debugger_->break_at(code().at[3]);
  EXPECT_EQ(debugger_->run().reason, StopReason::breakpoint);
  EXPECT_EQ(debugger_->run().reason, StopReason::watchpoint);
  const Stop last = debugger_->run();
  EXPECT_EQ(last.reason, StopReason::breakpoint);
  EXPECT_EQ(last.pc, code().at[3]);
}

TEST_P(Debugging, RunsToAnAddressAndUntilACondition) {
  SKIP_UNLESS(can().single_step && (software() || can().breakpoint), "a step, or a breakpoint,");
  const Stop there = debugger_->run_to(code().at[1]);
  EXPECT_EQ(there.reason, StopReason::breakpoint);
  EXPECT_FALSE(there.id);
  EXPECT_EQ(there.pc, code().at[1]);
  EXPECT_TRUE(debugger_->breakpoints().empty());
  const auto three = [](Vcpu& vcpu) { return vcpu.x86()->regs().rax == 3; };
  const Stop reached = debugger_->run_until(three, 100);
  EXPECT_EQ(reached.reason, StopReason::step);
  EXPECT_EQ(reached.pc, code().at[4]);
  EXPECT_EQ(debugger_->run_until([](Vcpu&) { return false; }, 1).reason, StopReason::timeout);
}

TEST_P(Debugging, StepsOffABreakpointAndAnnouncesTheNext) {
  SKIP_UNLESS(can().single_step && (software() || can().breakpoint), "a step, or a breakpoint,");
  debugger_->break_at(code_at);
  const Breakpoint next = debugger_->break_at(code().at[1]);
  EXPECT_EQ(debugger_->run().pc, code_at);  // a breakpoint where the vCPU stands is a stop
  const Stop stop = debugger_->step();
  EXPECT_EQ(stop.reason, StopReason::breakpoint);
  EXPECT_EQ(stop.id, next.id);
  EXPECT_EQ(rax(), 1U);
  EXPECT_EQ(debugger_->run().reason, StopReason::exit);
}

TEST_P(Debugging, WritesGoUnderPatches) {
  SKIP_UNLESS(software(), "a software breakpoint");
  debugger_->break_at(code().at[1], BreakpointKind::software);
  const std::uint8_t nops[] = {0x90, 0x90};
  debugger_->write(code().at[1], nops, 1);
  EXPECT_EQ(byte_at(code().at[1]), debugger_->support().trap_instruction());
  std::uint8_t seen = 0;
  debugger_->read(code().at[1], &seen, 1);
  EXPECT_EQ(seen, 0x90);
  // What the guest itself put there is not undone.
  memory_->write(code().at[1], nops, 1);
  debugger_->detach();
  EXPECT_EQ(byte_at(code().at[1]), 0x90);
}

TEST_P(Debugging, DetachRestoresEverything) {
  SKIP_UNLESS(software() || can().breakpoint, "a breakpoint");
  debugger_->break_at(code().at[1]);
  debugger_->break_at(code().at[3]);
  EXPECT_EQ(debugger_->run().reason, StopReason::breakpoint);
  debugger_.reset();
  EXPECT_EQ(byte_at(code().at[3]), code().bytes[code().at[3] - code_at]);
  EXPECT_FALSE(vcpu_->guest_debug()->settings().any());
  EXPECT_TRUE(std::holds_alternative<IoOut>(vcpu_->run({1s, nullptr})));
}

TEST_P(Debugging, TranslatesThroughTheGuestsTables) {
  if (GetParam() == DebugPlace::real) {
    EXPECT_THROW(address_space(*vm_, *vcpu_), InvalidConfig);
    return;
  }
  EXPECT_EQ(address_space(*vm_, *vcpu_).translate(GuestVirtual{high + code_at}).paddr, code_at);
  std::uint8_t byte = 0;
  debugger_->read(high + code_at, &byte, 1);
  EXPECT_EQ(byte, long_code.bytes[0]);
  EXPECT_THROW(debugger_->read(high + (1 << 20) - 1, &byte, 2), PageFault);
  if (!software()) return;
  // One place, seen under two addresses.
  const Breakpoint point = debugger_->break_at(high + code().at[2]);
  const Stop stop = debugger_->run();
  EXPECT_EQ(stop.id, point.id);
  EXPECT_EQ(stop.pc, code().at[2]);
}

TEST_P(Debugging, WhatDoesNotWorkIsRefused) {
  if (!can().single_step) {
    EXPECT_THROW(debugger_->step(), NotSupported);
  }
  if (!software()) {
    EXPECT_THROW(debugger_->break_at(code_at, BreakpointKind::software), NotSupported);
  }
  if (!can().watchpoint) {
    EXPECT_THROW(debugger_->watch(data_at, 4, false, true, WatchpointKind::hardware), NotSupported);
  }
  EXPECT_THROW(debugger_->watch(data_at + 1, 4), InvalidConfig);
  EXPECT_THROW(debugger_->watch(data_at, 3), InvalidConfig);
  EXPECT_THROW(debugger_->watch(data_at, 4, false, false), InvalidConfig);
  EXPECT_THROW(debugger_->run({}, 7), InvalidConfig);
}

TEST_P(Debugging, VcpusTakeTurns) {
  SKIP_UNLESS(software() || can().breakpoint, "a breakpoint");
  const std::uint8_t forever[] = {0xEB, 0xFE};
  memory_->write(0x2000, forever, sizeof forever);
  X86Regs regs = vcpu_->x86()->regs();
  regs.rip = 0x2000;
  vcpu_->x86()->set_regs(regs);
  const auto other = prepared();
  debugger_->break_at(code().at[1]);
  const Stop stop = debugger_->run({10s, nullptr});  // the first one spins, the other gets there all the same
  EXPECT_EQ(stop.reason, StopReason::breakpoint);
  EXPECT_EQ(stop.vcpu, other->id());
  EXPECT_EQ(debugger_->pc(0), 0x2000U);
  EXPECT_EQ(debugger_->run({20ms, nullptr}, 0).reason, StopReason::timeout);
}

TEST_P(Debugging, InterruptsAreSeenOnce) {
  const std::uint8_t forever[] = {0xEB, 0xFE};
  memory_->write(code_at, forever, sizeof forever);
  constexpr int rounds = 50;
  std::atomic<int> seen{0};
  std::thread interrupter([&] {
    for (int i = 0; i < rounds; ++i) {
      debugger_->interrupt();
      while (seen.load() <= i) std::this_thread::yield();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    EXPECT_EQ(debugger_->run({10s, nullptr}).reason, StopReason::interrupted) << i;
    ++seen;
  }
  interrupter.join();
  EXPECT_EQ(debugger_->run({10ms, nullptr}).reason, StopReason::timeout);
  debugger_->interrupt();
  debugger_->forget_interrupt();
  EXPECT_EQ(debugger_->run({10ms, nullptr}).reason, StopReason::timeout);
}

TEST_P(Debugging, AClosedVmIsLeftAlone) {
  if (software()) debugger_->break_at(code().at[1]);
  vm_->close();
  EXPECT_NO_THROW(debugger_->detach());
  EXPECT_THROW(debugger_->run(), ClosedError);
  EXPECT_EQ(byte_at(code().at[1]), code().bytes[code().at[1] - code_at]);
}

TEST(GuestDebugSettings, AreEncodedAsTheManualSays) {
  GuestDebugSettings settings;
  EXPECT_FALSE(settings.any());
  settings.hardware[0] = HardwareBreakpoint{0x1001, 1, HardwareBreakpoint::Kind::execute};
  settings.hardware[2] = HardwareBreakpoint{0x2000, 8, HardwareBreakpoint::Kind::read_write};
  EXPECT_TRUE(settings.any());
  EXPECT_EQ(dr7_of(settings), 0x0B000622U);
  settings.hardware[0]->size = 2;
  EXPECT_THROW(validate(settings), InvalidConfig);
  settings.hardware[0] = HardwareBreakpoint{0x1001, 4, HardwareBreakpoint::Kind::write};
  EXPECT_THROW(validate(settings), InvalidConfig);
}

std::string place_name(const testing::TestParamInfo<DebugPlace>& info) { return to_string(info.param); }
INSTANTIATE_TEST_SUITE_P(Places, Debugging, testing::Values(DebugPlace::real, DebugPlace::kernel, DebugPlace::user),
                         place_name);

}  // namespace
}  // namespace vm::accel
