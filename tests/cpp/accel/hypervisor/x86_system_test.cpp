// Clocks, capabilities and attributes of a VM and its vCPUs, and what of a vCPU's state an exit changes.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <thread>
#include <variant>
#include <vector>

#include "vm/accel/hypervisor/vcpu_state.hpp"
#include "vm/accel/hypervisor/x86_vm_state.hpp"
#include "x86_state_support.hpp"

namespace vm::accel {
namespace {

constexpr std::uint32_t lstar = 0xC000'0082;

TEST_F(StateOfX86, TimeStampCounter) {
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

TEST_F(StateOfX86, ClockOfTheVm) {
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

TEST_F(StateOfX86, PerformanceEvents) {
  const std::shared_ptr<X86VmState> state = vm_->x86();
  EXPECT_THROW(state->set_pmu_event_filter({true, std::vector<std::uint64_t>(301), 0}), InvalidConfig);
  if (!can("pmu_event_filter")) GTEST_SKIP() << "no KVM_CAP_PMU_EVENT_FILTER";
  state->set_pmu_event_filter({true, {0x3C, 0xC0}, 1});
  state->set_pmu_event_filter({false, {}, 0});
}

TEST_F(StateOfX86, RegistersAfterAnExitAreThoseOfTheGuest) {
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

TEST_F(StateOfX86, TheTaskPriorityStaysWithoutALocalApic) {
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

TEST_F(StateOfX86, NestedState) {
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

TEST_F(StateOfX86, RegistersOneByOne) {
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

TEST_F(StateOfX86, DeviceAttributesOfAVcpu) {
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

TEST_F(StateOfX86, CapabilitiesByName) {
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

TEST_F(StateOfX86, BelongsToTheThreadOfTheVcpu) {
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
