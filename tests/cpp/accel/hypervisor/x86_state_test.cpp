// Round trips of the registers of an x86 vCPU through the hypervisor of this machine, and refusals that change nothing.
#include <cstdint>
#include <variant>
#include <vector>

#include "vm/accel/hypervisor/vcpu_state.hpp"
#include "x86_state_support.hpp"

namespace vm::accel {
namespace {

constexpr std::uint32_t lstar = 0xC000'0082;

TEST_F(StateOfX86, FpuRoundTrip) {
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

TEST_F(StateOfX86, XsaveRoundTrip) {
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

TEST_F(StateOfX86, XcrRoundTrip) {
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

TEST_F(StateOfX86, DebugRegisterRoundTrip) {
  const auto vcpu = this->vcpu();
  const X86DebugRegs regs{{0x1000, 0x2000, 0x3000, 0xFFFF'8000'0000'0000}, 0xFFFF'0FF1, 0x403};
  vcpu->x86()->set_debug_regs(regs);
  EXPECT_THROW(vcpu->x86()->set_debug_regs({{}, 0xFFFF'0FF0, std::uint64_t{1} << 40}), PlatformError);
  const X86DebugRegs back = vcpu->x86()->debug_regs();
  EXPECT_EQ(back.dr, regs.dr);
  EXPECT_EQ(back.dr6, regs.dr6);
  EXPECT_EQ(back.dr7, regs.dr7);
}

TEST_F(StateOfX86, MsrsByNumber) {
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

TEST_F(StateOfX86, AllListedMsrsCanBeSavedAndRestored) {
  const auto vcpu = this->vcpu();
  for (const std::uint32_t index : hypervisor_->x86()->msr_indices()) {
    const std::vector<X86Msr> value = vcpu->x86()->msrs({index});
    if (msr_name(index) == "KVM_ASYNC_PF_INT" || msr_name(index) == "KVM_ASYNC_PF_ACK")
      continue;  // the kernel takes them only when the VM has an interrupt controller
    EXPECT_NO_THROW(vcpu->x86()->set_msrs(value)) << msr_name(index);
  }
  for (const X86Msr& feature : hypervisor_->x86()->feature_msrs()) EXPECT_NE(feature.index, 0U);
}

TEST_F(StateOfX86, CpuidRoundTrip) {
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

TEST_F(StateOfX86, EventsRoundTrip) {
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

TEST_F(StateOfX86, ATripleFaultThatWaitsHappens) {
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

TEST_F(StateOfX86, LapicNeedsAnInterruptController) {
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

TEST_F(StateOfX86, PageDirectoryPointers) {
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

TEST_F(StateOfX86, SpecialRegistersThatMakeNoSenseAreRefused) {
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

}  // namespace
}  // namespace vm::accel
