// What a guest does that the user wants to decide.

#include "vm/accel/hypervisor/exit_policy.hpp"

#include <string>

#include "real_mode_guest.hpp"

namespace vm::accel {
namespace {

constexpr std::uint32_t sysenter_cs = 0x174;       // a register that KVM has
constexpr std::uint32_t nobody_has = 0xC0DE'0001;  // one that it has not

Code move_ecx(std::uint32_t value) {
  Code code = {0x66, 0xB9};
  for (unsigned i = 0; i < 4; ++i) code.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  return code;
}

const Code rdmsr = {0x0F, 0x32};
const Code wrmsr = {0x0F, 0x30};
const Code out_al = {0xE6, reached};

class Policy : public RealMode {
 protected:
  void SetUp() override {
    RealMode::SetUp();
    if (!IsSkipped()) policy_ = vm_->exit_policy();
  }

  std::shared_ptr<ExitPolicy> policy_;
};

MsrFilter deny(std::uint32_t index, bool reads, bool writes) { return {false, {{index, {false}, reads, writes}}}; }

TEST_F(Policy, UnknownRegistersComeToTheUser) {
  handle(13);
  policy_->set_msr_exits({false, true, false});
  const auto vcpu = vcpu_with(move_ecx(nobody_has) + rdmsr + out_al + wrmsr + rdmsr + hlt);
  const Exit read = run(vcpu);
  ASSERT_TRUE(std::holds_alternative<RdMsr>(read)) << exit_name(read);
  EXPECT_EQ(std::get<RdMsr>(read).index, nobody_has);
  EXPECT_EQ(std::get<RdMsr>(read).reason, 2U);
  const std::uint64_t answer = 0x0000'0007'0000'0042;
  vcpu->reply(&answer, sizeof answer);
  EXPECT_EQ(next_out(vcpu, reached), 0x42);
  const Exit write = run(vcpu);
  ASSERT_TRUE(std::holds_alternative<WrMsr>(write)) << exit_name(write);
  EXPECT_EQ(std::get<WrMsr>(write).value, answer);
  ASSERT_TRUE(std::holds_alternative<RdMsr>(run(vcpu)));
  vcpu->refuse();
  EXPECT_EQ(next_out(vcpu, handled), 13);
}

TEST_F(Policy, TheFilterDecidesAboutReadsAndWrites) {
  policy_->set_msr_exits({false, false, true});
  policy_->set_msr_filter(deny(sysenter_cs, true, false));
  const auto vcpu = vcpu_with(move_ecx(sysenter_cs) + wrmsr + rdmsr + hlt);
  const Exit read = run(vcpu);
  ASSERT_TRUE(std::holds_alternative<RdMsr>(read)) << exit_name(read);
  EXPECT_EQ(std::get<RdMsr>(read).reason, 4U);
  const std::uint64_t answer = 1;
  vcpu->reply(&answer, sizeof answer);
  EXPECT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
}

TEST_F(Policy, WithoutAnExitADeniedAccessFaults) {
  handle(13);
  policy_->set_msr_filter(deny(sysenter_cs, false, true));
  const auto vcpu = vcpu_with(move_ecx(sysenter_cs) + rdmsr + out(reached) + wrmsr + hlt);
  next_out(vcpu, reached);
  EXPECT_EQ(next_out(vcpu, handled), 13);
}

TEST_F(Policy, AnEmptyFilterLetsEverythingPass) {
  policy_->set_msr_filter({true, {{sysenter_cs, {false}, true, true}}});
  policy_->set_msr_filter({});
  const auto vcpu = vcpu_with(move_ecx(sysenter_cs) + rdmsr + wrmsr + hlt);
  EXPECT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
}

TEST_F(Policy, FiltersThatCouldNotBeKeptAreRefused) {
  const MsrFilter wrong[] = {
      {true, {}},
      {false, std::vector<MsrRange>(17, MsrRange{0x10, {true}, true, true})},
      {false, {{0x10, {}, true, true}}},
      {false, {{0x10, std::vector<bool>(12289), true, true}}},
      {false, {{UINT32_MAX, {true, true}, true, true}}},
      {false, {{0x10, {true}, false, false}}},
      {false, {{0x7FF, {true, true}, true, true}}},
  };
  for (const MsrFilter& filter : wrong) EXPECT_THROW(policy_->set_msr_filter(filter), InvalidConfig);
  EXPECT_NO_THROW(policy_->set_msr_filter({false, {{0, std::vector<bool>(0x800, true), true, true}}}));
}

TEST_F(Policy, HypercallsComeToTheUser) {
  const std::set<unsigned> possible = policy_->possible_hypercall_exits();
  EXPECT_THROW(policy_->set_hypercall_exits({63}), NotSupported);
  constexpr unsigned map_gpa_range = 12;  // KVM_HC_MAP_GPA_RANGE: pages ebx + ecx, attributes edx
  if (possible.count(map_gpa_range) == 0) GTEST_SKIP() << "KVM_CAP_EXIT_HYPERCALL has no KVM_HC_MAP_GPA_RANGE here";
  policy_->set_hypercall_exits({map_gpa_range});
  const auto vcpu = vcpu_with({0x0F, 0x01, 0xC1, 0xE6, reached, 0xF4});  // vmcall; out reached, al; hlt
  X86Regs regs = vcpu->x86()->regs();
  regs.rax = map_gpa_range;
  regs.rbx = 0x3000;
  regs.rcx = 2;
  regs.rdx = 0x10;
  vcpu->x86()->set_regs(regs);
  const Exit call = vcpu->run({std::chrono::milliseconds(500), nullptr});
  if (std::holds_alternative<Timeout>(call) && vcpu->x86()->regs().rip == 0x1000)
    GTEST_SKIP() << "this KVM emulates kernel mode, and its emulator leaves hypercalls to the processor";
  ASSERT_TRUE(std::holds_alternative<Hypercall>(call)) << exit_name(call);
  EXPECT_EQ(std::get<Hypercall>(call).number, map_gpa_range);
  EXPECT_EQ(std::get<Hypercall>(call).arguments[0], 0x3000U);
  const std::uint64_t answer = 0x55;
  vcpu->reply(&answer, sizeof answer);
  EXPECT_EQ(next_out(vcpu, reached), 0x55);
}

TEST_F(Policy, ExitsAreGivenUpBeforeTheFirstVcpu) {
  try {
    policy_->disable_exits({false, true, true, false});
  } catch (const NotSupported& error) {
    EXPECT_NE(std::string(error.what()).find("KVM_CAP_X86_DISABLE_EXITS"), std::string::npos) << error.what();
    GTEST_SKIP() << error.what();
  }
  const auto vcpu = vm_->create_vcpu();
  EXPECT_THROW(policy_->disable_exits({false, true, true, false}), InvalidConfig);
}

}  // namespace
}  // namespace vm::accel
