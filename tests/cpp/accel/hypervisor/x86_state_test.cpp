// Round trips of all state of an x86 vCPU through the hypervisor of this machine, and refusals that change nothing.

#include "vm/accel/hypervisor/x86_state.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/capabilities.hpp"
#include "vm/accel/hypervisor/hypervisor.hpp"
#include "vm/accel/hypervisor/vcpu_state.hpp"
#include "vm/accel/hypervisor/x86_system.hpp"
#include "vm/accel/hypervisor/x86_vm_state.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

constexpr std::uint32_t lstar = 0xC000'0082;

class State : public testing::Test {
 protected:
  void SetUp() override {
    try {
      hypervisor_ = create_hypervisor();
    } catch (const NotSupported& error) {
      GTEST_SKIP() << error.what();
    }
    if (hypervisor_->architecture() != Architecture::x86_64) GTEST_SKIP() << "the state of x86";
    vm_ = hypervisor_->create_vm();
  }

  /// With everything that the hypervisor supports, so that nothing is refused for want of a feature.
  std::shared_ptr<Vcpu> vcpu() {
    auto vcpu = vm_->create_vcpu();
    CpuidTable table = hypervisor_->x86()->supported_cpuid();
    table.place({vcpu->id(), 1, 4});
    vcpu->x86()->set_cpuid(table);
    return vcpu;
  }

  bool can(const char* capability) { return vm_->capabilities()->check(capability) > 0; }

  std::shared_ptr<Hypervisor> hypervisor_;
  std::shared_ptr<Vm> vm_;
};

/// What `refused` throws names `part`.
template <class Error, class Call>
void expect_named(Call refused, const std::string& part) {
  try {
    refused();
    ADD_FAILURE() << "nothing was thrown; expected a message with " << part;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST_F(State, FpuRoundTrip) {
  const auto vcpu = this->vcpu();
  X86Fpu fpu = vcpu->x86()->fpu();
  EXPECT_EQ(fpu.fcw, 0x37F);
  fpu.fcw = 0x27F;
  fpu.fsw = 0x3800;
  fpu.ftw = 0xFF;
  fpu.last_opcode = 0x155;
  fpu.last_ip = 0x1122;
  fpu.mxcsr = 0x1FA0;
  for (std::size_t i = 0; i < 8; ++i) fpu.fpr[i][9] = static_cast<std::uint8_t>(0x40 + i);
  for (std::size_t i = 0; i < 16; ++i) fpu.xmm[i].fill(static_cast<std::uint8_t>(i + 1));
  vcpu->x86()->set_fpu(fpu);
  const X86Fpu back = vcpu->x86()->fpu();
  EXPECT_EQ(back.fpr, fpu.fpr);
  EXPECT_EQ(back.xmm, fpu.xmm);
  EXPECT_EQ(back.fcw, fpu.fcw);
  EXPECT_EQ(back.fsw, fpu.fsw);
  EXPECT_EQ(back.ftw, fpu.ftw);
  EXPECT_EQ(back.mxcsr, fpu.mxcsr);
  EXPECT_EQ(vcpu->x86()->xsave().legacy().xmm, fpu.xmm);
  fpu.mxcsr = 0x10000;  // reserved bits
  EXPECT_THROW(vcpu->x86()->set_fpu(fpu), PlatformError);
  EXPECT_EQ(vcpu->x86()->fpu().mxcsr, 0x1FA0U);
}

TEST_F(State, XsaveRoundTrip) {
  const auto vcpu = this->vcpu();
  X86Xsave xsave = vcpu->x86()->xsave();
  EXPECT_GE(xsave.size(), 4096U);
  X86Fpu fpu = xsave.legacy();
  fpu.xmm[3].fill(0x5A);
  fpu.fpr[2][0] = 0x77;
  xsave.set_legacy(fpu);
  vcpu->x86()->set_xsave(xsave);
  EXPECT_EQ(vcpu->x86()->xsave().legacy().xmm, fpu.xmm);
  EXPECT_EQ(vcpu->x86()->fpu().fpr[2][0], 0x77);
  EXPECT_THROW(vcpu->x86()->set_xsave(X86Xsave(std::vector<std::uint8_t>(xsave.size() + 8))), InvalidConfig);
  xsave.set_xstate_bv(~std::uint64_t{0});  // components that no processor has
  EXPECT_THROW(vcpu->x86()->set_xsave(xsave), PlatformError);
  EXPECT_EQ(vcpu->x86()->xsave().legacy().xmm, fpu.xmm);
}

TEST_F(State, XcrRoundTrip) {
  if (!can("xcrs")) GTEST_SKIP() << "no KVM_CAP_XCRS";
  if (!hypervisor_->x86()->supported_cpuid().has("xsave")) GTEST_SKIP() << "guests get no XSAVE here";
  const auto vcpu = this->vcpu();
  vcpu->x86()->set_xcrs({{0, 3}});
  std::vector<X86Xcr> xcrs = vcpu->x86()->xcrs();
  ASSERT_EQ(xcrs.size(), 1U);
  EXPECT_EQ(xcrs[0].index, 0U);
  EXPECT_EQ(xcrs[0].value, 3U);
  EXPECT_THROW(vcpu->x86()->set_xcrs({{0, 2}}), PlatformError);  // x87 cannot be switched off
  EXPECT_THROW(vcpu->x86()->set_xcrs({{1, 1}}), InvalidConfig);
  EXPECT_THROW(vcpu->x86()->set_xcrs(std::vector<X86Xcr>(17)), InvalidConfig);
  EXPECT_EQ(vcpu->x86()->xcrs()[0].value, 3U);
}

TEST_F(State, DebugRegisterRoundTrip) {
  const auto vcpu = this->vcpu();
  const X86DebugRegs regs{{0x1000, 0x2000, 0x3000, 0xFFFF'8000'0000'0000}, 0xFFFF'0FF1, 0x403};
  vcpu->x86()->set_debug_regs(regs);
  EXPECT_THROW(vcpu->x86()->set_debug_regs({{}, 0xFFFF'0FF0, std::uint64_t{1} << 40}), PlatformError);
  const X86DebugRegs back = vcpu->x86()->debug_regs();
  EXPECT_EQ(back.dr, regs.dr);
  EXPECT_EQ(back.dr6, regs.dr6);
  EXPECT_EQ(back.dr7, regs.dr7);
}

TEST_F(State, MsrsByNumber) {
  const auto vcpu = this->vcpu();
  vcpu->x86()->set_msrs({{lstar, 0xFFFF'8000'0000'1000}, {0x277, 0x0007'0406'0007'0406}});
  const std::vector<X86Msr> back = vcpu->x86()->msrs({0x277, lstar});
  EXPECT_EQ(back[0].value, 0x0007'0406'0007'0406U);
  EXPECT_EQ(back[1].index, lstar);
  EXPECT_EQ(back[1].value, 0xFFFF'8000'0000'1000U);
  EXPECT_TRUE(vcpu->x86()->msrs({}).empty());
  expect_named<PlatformError>([&] { vcpu->x86()->msrs({lstar, 0x1234'5678}); }, "0x12345678");
  const X86Msr refused{msr_index("EFER"), std::uint64_t{1} << 63};
  const std::uint64_t before = vcpu->x86()->msrs({refused.index})[0].value;
  expect_named<PlatformError>(
      [&] {
        vcpu->x86()->set_msrs({{lstar, 0}, refused, {lstar, 0x1000}});
      },
      "EFER (0xc0000080)");
  expect_named<PlatformError>([&] { vcpu->x86()->set_msrs({{lstar, 0}, refused}); }, "of 2 registers 1 are written");
  EXPECT_EQ(vcpu->x86()->msrs({refused.index})[0].value, before);
  EXPECT_EQ(vcpu->x86()->msrs({lstar})[0].value, 0U);
  // More than the kernel takes at once.
  EXPECT_EQ(vcpu->x86()->msrs(std::vector<std::uint32_t>(600, lstar)).size(), 600U);
  vcpu->x86()->set_msrs(std::vector<X86Msr>(600, {lstar, 0x42000}));
  EXPECT_EQ(vcpu->x86()->msrs({lstar})[0].value, 0x42000U);
}

TEST_F(State, AllListedMsrsCanBeSavedAndRestored) {
  const auto vcpu = this->vcpu();
  for (const std::uint32_t index : hypervisor_->x86()->msr_indices()) {
    const std::vector<X86Msr> value = vcpu->x86()->msrs({index});
    if (msr_name(index) == "KVM_ASYNC_PF_INT" || msr_name(index) == "KVM_ASYNC_PF_ACK")
      continue;  // the kernel takes them only when the VM has an interrupt controller
    EXPECT_NO_THROW(vcpu->x86()->set_msrs(value)) << msr_name(index);
  }
  for (const X86Msr& feature : hypervisor_->x86()->feature_msrs()) EXPECT_NE(feature.index, 0U);
}

TEST_F(State, CpuidRoundTrip) {
  const auto vcpu = vm_->create_vcpu();
  CpuidTable table = hypervisor_->x86()->supported_cpuid();
  EXPECT_TRUE(table.has("lm"));
  EXPECT_FALSE(hypervisor_->x86()->emulated_cpuid().entries().empty());
  const CpuidEntry brand{0x8000'0002, 0, false, 0x2041'4243, 0x2044'4546, 0x2047'4849, 0x204A'4B4C};
  table.set(brand);
  vcpu->x86()->set_cpuid(table);
  ASSERT_NE(vcpu->x86()->cpuid().find(brand.function), nullptr);
  EXPECT_EQ(*vcpu->x86()->cpuid().find(brand.function), brand);
  EXPECT_EQ(vcpu->x86()->cpuid().entries().size(), table.entries().size());
  CpuidTable strange = table;
  strange.find(0x8000'0008)->eax = 0x3230;  // 50 bits of virtual address
  const std::vector<CpuidEntry> before = vcpu->x86()->cpuid().entries();
  EXPECT_THROW(vcpu->x86()->set_cpuid(strange), PlatformError);
  CpuidTable large;
  for (std::uint32_t i = 0; i < 1000; ++i) large.set({i, 0, false, 0, 0, 0, 0});
  expect_named<PlatformError>([&] { vcpu->x86()->set_cpuid(large); }, "more entries");
  EXPECT_EQ(vcpu->x86()->cpuid().entries(), before);
  vcpu->x86()->set_cpuid(CpuidTable::minimal(table));
  EXPECT_EQ(vcpu->x86()->cpuid().find(brand.function), nullptr);
}

TEST_F(State, EventsRoundTrip) {
  const auto vcpu = this->vcpu();
  X86Events events = vcpu->x86()->events();
  EXPECT_FALSE(events.exception.pending || events.interrupt.injected || events.nmi.pending || events.triple_fault);
  events.exception.injected = true;
  events.exception.vector = 14;
  events.exception.error_code = 6;
  events.interrupt.shadow_sti = true;
  events.nmi.pending = true;
  events.nmi.masked = true;
  vcpu->x86()->set_events(events);
  X86Events back = vcpu->x86()->events();
  EXPECT_TRUE(back.exception.injected);
  EXPECT_EQ(back.exception.vector, 14);
  EXPECT_EQ(back.exception.error_code, 6U);
  EXPECT_TRUE(back.interrupt.shadow_sti);
  EXPECT_TRUE(back.nmi.pending);
  EXPECT_TRUE(back.nmi.masked);

  X86Events refused = back;
  refused.exception.pending = true;
  EXPECT_THROW(vcpu->x86()->set_events(refused), InvalidConfig);
  refused = back;
  refused.exception.vector = 32;
  EXPECT_THROW(vcpu->x86()->set_events(refused), InvalidConfig);
  refused = back;
  refused.exception.payload = 1;
  EXPECT_THROW(vcpu->x86()->set_events(refused), InvalidConfig);
  EXPECT_EQ(vcpu->x86()->events().exception.vector, 14);

  if (can("exception_payload")) {
    X86Events fault;
    fault.exception.pending = true;
    fault.exception.vector = 14;
    fault.exception.error_code = 0;
    fault.exception.payload = 0x5000;
    vcpu->x86()->set_events(fault);
    back = vcpu->x86()->events();
    EXPECT_TRUE(back.exception.pending);
    EXPECT_EQ(back.exception.payload, 0x5000U);
    EXPECT_FALSE(back.nmi.masked);
  }
  X86Events smi;
  smi.smi.pending = true;
  if (can("x86_smm")) {
    vcpu->x86()->set_events(smi);
    EXPECT_TRUE(vcpu->x86()->events().smi.pending);
  } else {
    expect_named<NotSupported>([&] { vcpu->x86()->set_events(smi); }, "KVM_CAP_X86_SMM");
  }
}

TEST_F(State, ATripleFaultThatWaitsHappens) {
  const auto vcpu = this->vcpu();
  X86Events events;
  events.triple_fault = true;
  if (!can("x86_triple_fault_event")) {
    expect_named<NotSupported>([&] { vcpu->x86()->set_events(events); }, "KVM_CAP_X86_TRIPLE_FAULT_EVENT");
    return;
  }
  vcpu->x86()->set_events(events);
  EXPECT_TRUE(vcpu->x86()->events().triple_fault);
  EXPECT_TRUE(std::holds_alternative<Shutdown>(vcpu->run()));
}

TEST_F(State, LapicNeedsAnInterruptController) {
  const auto without = vcpu();
  expect_named<InvalidConfig>([&] { without->x86()->lapic(); }, "interrupt controller");
  if (!can("split_irqchip")) GTEST_SKIP() << "no KVM_CAP_SPLIT_IRQCHIP";
  vm_ = hypervisor_->create_vm();
  vm_->capabilities()->enable("KVM_CAP_SPLIT_IRQCHIP", {24});
  const auto vcpu = this->vcpu();
  X86Lapic lapic = vcpu->x86()->lapic();
  EXPECT_NE(lapic.read(0x30), 0U);
  EXPECT_EQ(lapic.read(0x20) >> 24, vcpu->id());
  lapic.write(0x80, 0x20);
  lapic.write(0xF0, 0x1FF);
  lapic.write(0x350, 0x700);
  vcpu->x86()->set_lapic(lapic);
  const X86Lapic back = vcpu->x86()->lapic();
  EXPECT_EQ(back.read(0x80), 0x20U);
  EXPECT_EQ(back.read(0xF0), 0x1FFU);
  EXPECT_EQ(back.read(0x350), 0x700U);
  EXPECT_EQ(vcpu->x86()->sregs().cr8, 2U);  // the task priority by its other name

  vcpu->state()->set_mp_state(MpState::halted);
  EXPECT_EQ(vcpu->state()->mp_state(), MpState::halted);
  EXPECT_THROW(vcpu->state()->set_mp_state(MpState::check_stop), PlatformError);
  EXPECT_EQ(vcpu->state()->mp_state(), MpState::halted);
}

TEST_F(State, TimeStampCounter) {
  const auto vcpu = this->vcpu();
  const std::uint32_t khz = vcpu->x86()->tsc_khz();
  EXPECT_GT(khz, 1000U);
  vcpu->x86()->set_tsc_khz(khz);
  EXPECT_THROW(vcpu->x86()->set_tsc_khz(0), InvalidConfig);
  if (can("tsc_control")) {
    vcpu->x86()->set_tsc_khz(khz / 2);
    EXPECT_EQ(vcpu->x86()->tsc_khz(), khz / 2);
  } else {
    expect_named<NotSupported>([&] { vcpu->x86()->set_tsc_khz(khz / 2); }, "KVM_CAP_TSC_CONTROL");
    EXPECT_EQ(vcpu->x86()->tsc_khz(), khz);
  }
  const std::uint64_t before = vcpu->x86()->msrs({0x10})[0].value;
  EXPECT_GT(vcpu->x86()->msrs({0x10})[0].value, before);
  EXPECT_THROW(vcpu->x86()->kvmclock_ctrl(), PlatformError);  // this guest has switched none on
}

TEST_F(State, ClockOfTheVm) {
  const auto vcpu = this->vcpu();
  const std::shared_ptr<X86VmState> state = vm_->x86();
  const std::uint64_t later = std::uint64_t{3600} * 1'000'000'000;
  VmClock clock;
  clock.ns = later;
  state->set_clock(clock);
  const VmClock back = state->clock();
  EXPECT_GE(back.ns, later);
  EXPECT_LT(back.ns, later + later);
  EXPECT_GT(state->clock().ns, back.ns);
  if (back.realtime_ns) {
    clock.realtime_ns = *back.realtime_ns - 1'000'000'000;
    state->set_clock(clock);
    EXPECT_GE(state->clock().ns, later + 1'000'000'000);
  }
  if (can("vm_tsc_control")) {
    state->set_tsc_khz(1'000'000);
    EXPECT_EQ(state->tsc_khz(), 1'000'000U);
  } else {
    expect_named<NotSupported>([&] { state->set_tsc_khz(1'000'000); }, "KVM_CAP_VM_TSC_CONTROL");
  }
}

TEST_F(State, PerformanceEvents) {
  const std::shared_ptr<X86VmState> state = vm_->x86();
  EXPECT_THROW(state->set_pmu_event_filter({true, std::vector<std::uint64_t>(301), 0}), InvalidConfig);
  if (!can("pmu_event_filter")) GTEST_SKIP() << "no KVM_CAP_PMU_EVENT_FILTER";
  state->set_pmu_event_filter({true, {0x3C, 0xC0}, 1});
  state->set_pmu_event_filter({false, {}, 0});
}

TEST_F(State, PageDirectoryPointers) {
  const auto vcpu = this->vcpu();
  if (!can("sregs2")) {
    expect_named<NotSupported>([&] { vcpu->x86()->pdptrs(); }, "KVM_CAP_SREGS2");
    return;
  }
  EXPECT_FALSE(vcpu->x86()->pdptrs());
  EXPECT_THROW(vcpu->x86()->set_pdptrs({}), InvalidConfig);
  const auto memory = mem::GuestMemory::anonymous(1 << 16);
  const X86Pdptrs tables{0x2001, 0, 0x3001, 0};
  memory->write(0x1000, tables.data(), sizeof tables);
  vm_->map(*memory);
  X86SpecialRegs sregs = vcpu->x86()->sregs();
  sregs.cr0 |= std::uint64_t{1} << 31 | 1;
  sregs.cr4 |= 1 << 5;
  sregs.cr3 = 0x1000;
  vcpu->x86()->set_sregs(sregs);
  if ((vcpu->x86()->sregs().cr0 >> 31 & 1) == 0) GTEST_SKIP() << "this KVM leaves CR0.PG clear outside long mode";
  EXPECT_EQ(vcpu->x86()->pdptrs(), tables);
  const X86Pdptrs others{0, 0x4001, 0, 0};
  vcpu->x86()->set_pdptrs(others);
  EXPECT_EQ(vcpu->x86()->pdptrs(), others);
  sregs = vcpu->x86()->sregs();
  vcpu->x86()->set_sregs(sregs);
  EXPECT_EQ(vcpu->x86()->pdptrs(), tables);  // from memory again
}

TEST_F(State, SpecialRegistersThatMakeNoSenseAreRefused) {
  const auto vcpu = this->vcpu();
  X86SpecialRegs sregs = vcpu->x86()->sregs();
  const std::uint64_t before = sregs.cr0;
  sregs.cr2 = 0x1234;
  sregs.cr0 = std::uint64_t{1} << 31;  // paging without protection
  EXPECT_THROW(vcpu->x86()->set_sregs(sregs), PlatformError);
  EXPECT_EQ(vcpu->x86()->sregs().cr0, before);
  EXPECT_EQ(vcpu->x86()->sregs().cr2, 0U);
  sregs.cr0 = before;
  vcpu->x86()->set_sregs(sregs);
  EXPECT_EQ(vcpu->x86()->sregs().cr2, 0x1234U);
}

TEST_F(State, RegistersAfterAnExitAreThoseOfTheGuest) {
  const auto memory = mem::GuestMemory::anonymous(1 << 16);
  // inc ax; out 0x10, al; mov cr2, eax; jmp back
  const std::vector<std::uint8_t> code{0x40, 0xE6, 0x10, 0x0F, 0x22, 0xD0, 0xEB, 0xF8};
  memory->write(0x1000, code.data(), code.size());
  vm_->map(*memory);
  const auto vcpu = this->vcpu();
  X86SpecialRegs sregs = vcpu->x86()->sregs();
  sregs.cs.base = sregs.cs.selector = 0;
  vcpu->x86()->set_sregs(sregs);
  X86Regs regs;
  regs.rip = 0x1000;
  vcpu->x86()->set_regs(regs);
  std::uint64_t rax = 0;
  for (int round = 0; round < 8; ++round) {
    const std::uint64_t cr2 = rax;
    ASSERT_TRUE(std::holds_alternative<IoOut>(vcpu->run())) << round;
    ++rax;
    if (round == 3) continue;  // registers that nobody reads are not asked for at the next exit
    EXPECT_EQ(vcpu->x86()->regs().rax, rax) << round;
    if (round % 2 == 0) {
      EXPECT_EQ(vcpu->x86()->sregs().cr2, cr2) << round;
    }
    vcpu->state()->mp_state();  // what the exit left is forgotten: the kernel itself says the same
    EXPECT_EQ(vcpu->x86()->regs().rax, rax) << round;
    EXPECT_EQ(vcpu->x86()->sregs().cr2, cr2) << round;
    if (round == 5) {
      vcpu->complete();
      regs = vcpu->x86()->regs();
      EXPECT_EQ(regs.rip, 0x1003U);
      rax = regs.rax = 100;
      vcpu->x86()->set_regs(regs);
      EXPECT_EQ(vcpu->x86()->regs().rax, 100U);
    }
  }
}

TEST_F(State, TheTaskPriorityStaysWithoutALocalApic) {
  const auto memory = mem::GuestMemory::anonymous(1 << 16);
  const std::uint8_t halt = 0xF4;
  memory->write(0x1000, &halt, 1);
  vm_->map(*memory);
  const auto vcpu = this->vcpu();
  X86SpecialRegs sregs = vcpu->x86()->sregs();
  sregs.cs.base = sregs.cs.selector = 0;
  sregs.cr8 = 5;
  vcpu->x86()->set_sregs(sregs);
  X86Regs regs;
  regs.rip = 0x1000;
  vcpu->x86()->set_regs(regs);
  EXPECT_TRUE(std::holds_alternative<Hlt>(vcpu->run({})));
  EXPECT_EQ(vcpu->x86()->sregs().cr8, 5U);
}

TEST_F(State, NestedState) {
  const auto vcpu = this->vcpu();
  if (can("nested_state")) {
    const std::vector<std::uint8_t> state = vcpu->x86()->nested_state();
    EXPECT_GE(state.size(), 128U);
    vcpu->x86()->set_nested_state(state);
    EXPECT_EQ(vcpu->x86()->nested_state(), state);
    EXPECT_THROW(vcpu->x86()->set_nested_state({1, 2, 3}), InvalidConfig);
  } else {
    expect_named<NotSupported>([&] { vcpu->x86()->nested_state(); }, "KVM_CAP_NESTED_STATE");
    expect_named<NotSupported>([&] { vcpu->x86()->set_nested_state({}); }, "KVM_CAP_NESTED_STATE");
  }
}

TEST_F(State, RegistersOneByOne) {
  const auto vcpu = this->vcpu();
  if (!can("one_reg")) {
    expect_named<NotSupported>([&] { vcpu->state()->register_ids(); }, "KVM_CAP_ONE_REG");
    return;
  }
  // x86, since Linux 6.18: 64 bits, of kind 2, which are MSRs (arch/x86/include/uapi/asm/kvm.h).
  const std::uint64_t id = 0x2030'0002'0000'0000 | lstar;
  const std::vector<std::uint8_t> value{0, 0x10, 0, 0, 0, 0x80, 0xFF, 0xFF};
  vcpu->state()->set_register_value(id, value);
  EXPECT_EQ(vcpu->state()->register_value(id), value);
  EXPECT_EQ(vcpu->x86()->msrs({lstar})[0].value, 0xFFFF'8000'0000'1000U);
  EXPECT_THROW(vcpu->state()->set_register_value(id, {1}), InvalidConfig);
  EXPECT_THROW(vcpu->state()->register_value(0), PlatformError);
  EXPECT_EQ(vcpu->state()->register_value(id), value);
  EXPECT_NO_THROW(vcpu->state()->register_ids());
}

TEST_F(State, DeviceAttributesOfAVcpu) {
  const auto vcpu = this->vcpu();
  // KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET (Documentation/virt/kvm/devices/vcpu.rst §4)
  if (!vcpu->state()->attributes().has(0, 0)) GTEST_SKIP() << "no KVM_VCPU_TSC_OFFSET";
  DeviceAttributes& attributes = vcpu->state()->attributes();  // this thread owns the vCPU, and nothing runs
  EXPECT_EQ(attributes.get(0, 0, 8).size(), 8U);
  EXPECT_FALSE(attributes.has(77, 1));
  expect_named<PlatformError>([&] { attributes.get(77, 1, 8); }, "group 77");
  EXPECT_THROW(attributes.set(77, 1, {0}), PlatformError);
  EXPECT_THROW(attributes.get(0, 0, 5000), InvalidConfig);
  const std::vector<std::uint8_t> offset{0, 0, 0, 0, 1, 0, 0, 0};
  attributes.set(0, 0, offset);
  if (attributes.get(0, 0, 8) == std::vector<std::uint8_t>(8)) GTEST_SKIP() << "this KVM ignores TSC offsets";
  EXPECT_EQ(attributes.get(0, 0, 8), offset);
}

TEST_F(State, CapabilitiesByName) {
  const std::shared_ptr<Capabilities> system = hypervisor_->capabilities();
  EXPECT_EQ(system->check("KVM_CAP_USER_MEMORY"), 1);
  EXPECT_EQ(system->check("user_memory"), 1);
  EXPECT_EQ(system->check("3"), 1);
  expect_named<InvalidConfig>([&] { system->check("KVM_CAP_FREE_LUNCH"); }, "FREE_LUNCH");
  EXPECT_THROW(system->check(""), InvalidConfig);
  EXPECT_THROW(system->check("99999999999999"), InvalidConfig);
  const std::vector<CapabilityAnswer> all = system->all();
  const auto memory = std::find_if(all.begin(), all.end(), [](const auto& c) { return c.name == "user_memory"; });
  ASSERT_NE(memory, all.end());
  EXPECT_EQ(memory->value, 1);
  EXPECT_THROW(system->enable("halt_poll"), NotSupported);
  expect_named<PlatformError>([&] { vm_->capabilities()->enable("user_memory"); }, "user_memory");
  if (can("halt_poll")) vm_->capabilities()->enable("halt_poll", {100'000});
  EXPECT_THROW(vm_->create_vcpu()->capabilities()->enable("KVM_CAP_HYPERV_SYNIC", {}, 7), PlatformError);
  hypervisor_->close();
  EXPECT_EQ(system->check("user_memory"), 1);  // a facet outlives the close
  EXPECT_THROW(hypervisor_->capabilities(), ClosedError);
}

TEST_F(State, BelongsToTheThreadOfTheVcpu) {
  const auto vcpu = this->vcpu();
  std::thread([&] {
    EXPECT_THROW(vcpu->x86()->fpu(), AccessViolation);
    EXPECT_THROW(vcpu->state()->mp_state(), AccessViolation);
    EXPECT_THROW(vcpu->capabilities()->check("irqchip"), AccessViolation);
  }).join();
  vcpu->close();
  EXPECT_THROW(vcpu->x86()->fpu(), ClosedError);
}

}  // namespace
}  // namespace vm::accel
