// Interrupts arrive by every route.

#include "vm/accel/hypervisor/interrupts.hpp"

#include <thread>

#include "real_mode_guest.hpp"
#include "vm/accel/hypervisor/vcpu_interrupts.hpp"
#include "vm/accel/hypervisor/x86_irqchip.hpp"

namespace vm::accel {
namespace {

class Interrupt : public RealMode {
 protected:
  void SetUp() override {
    RealMode::SetUp();
    if (!IsSkipped()) interrupts_ = vm_->interrupts();
  }

  /// The whole irqchip, its PIC master sending vectors from 0x20 on.
  void create_irqchip() {
    interrupts_->create_irqchip();
    PicState master;
    master.irq_base = 0x20;
    vm_->x86_irqchip()->set_pic(IrqController::pic_master, master);
  }

  std::shared_ptr<Interrupts> interrupts_;
};

using MSec = std::chrono::milliseconds;

TEST_F(Interrupt, IsInjectedWithoutAnIrqchip) {
  handle(0x20);
  const auto vcpu = vcpu_with(sti + hlt + out(reached) + hlt);
  EXPECT_FALSE(vcpu->interrupts()->ready());  // it has not run yet
  EXPECT_THROW(vcpu->interrupts()->interrupt(0x20), InvalidConfig);
  ASSERT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  EXPECT_TRUE(vcpu->interrupts()->ready());
  EXPECT_TRUE(vcpu->interrupts()->enabled());
  EXPECT_THROW(vcpu->interrupts()->interrupt(256), InvalidConfig);
  vcpu->interrupts()->interrupt(0x20);
  EXPECT_THROW(vcpu->interrupts()->interrupt(0x20), InvalidConfig);  // would replace the first
  EXPECT_EQ(next_out(vcpu, handled), 0x20);
  EXPECT_FALSE(vcpu->interrupts()->enabled());
  EXPECT_EQ(next_out(vcpu, reached), 0);
  EXPECT_EQ(interrupts_->irqchip(), IrqchipKind::none);
}

TEST_F(Interrupt, AWindowIsToldOnce) {
  handle(0x21);
  const auto vcpu = vcpu_with(cli + out(reached) + sti + forever);
  next_out(vcpu, reached);
  EXPECT_FALSE(vcpu->interrupts()->ready());
  EXPECT_THROW(vcpu->interrupts()->interrupt(0x21), InvalidConfig);
  vcpu->interrupts()->request_window();
  ASSERT_TRUE(std::holds_alternative<IrqWindowOpen>(run(vcpu)));
  vcpu->interrupts()->interrupt(0x21);
  EXPECT_EQ(next_out(vcpu, handled), 0x21);
  EXPECT_TRUE(std::holds_alternative<Timeout>(vcpu->run({MSec(20), nullptr})));
}

TEST_F(Interrupt, NmiNeedsNoPermission) {
  handle(2);
  const auto vcpu = vcpu_with(cli + hlt + out(reached) + hlt);
  ASSERT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  vcpu->interrupts()->nmi();
  EXPECT_EQ(next_out(vcpu, handled), 2);
  EXPECT_EQ(next_out(vcpu, reached), 0);
}

TEST_F(Interrupt, SmiNamesWhatIsMissing) {
  const auto vcpu = vcpu_with(hlt);
  try {
    vcpu->interrupts()->smi();
    GTEST_SKIP() << "this KVM has system-management mode";
  } catch (const NotSupported& error) {
    EXPECT_NE(std::string(error.what()).find("KVM_CAP_X86_SMM"), std::string::npos) << error.what();
  }
}

TEST_F(Interrupt, TheTaskPriorityIsSharedWithoutAnIrqchip) {
  const auto vcpu = vcpu_with(hlt);
  vcpu->interrupts()->set_task_priority(5);
  ASSERT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  EXPECT_EQ(vcpu->interrupts()->task_priority(), 5);
  const X86SpecialRegs sregs = vcpu->x86()->sregs();
  EXPECT_EQ(sregs.cr8, 5U);
  EXPECT_EQ(vcpu->interrupts()->apic_base(), sregs.apic_base);
  EXPECT_THROW(vcpu->interrupts()->set_task_priority(16), InvalidConfig);
  X86SpecialRegs other = sregs;
  other.cr8 = 9;
  vcpu->x86()->set_sregs(other);
  X86Regs regs = vcpu->x86()->regs();
  regs.rip = 0x1000;
  vcpu->x86()->set_regs(regs);
  ASSERT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  EXPECT_EQ(vcpu->x86()->sregs().cr8, 9U);
}

TEST_F(Interrupt, ALineReachesThePic) {
  create_irqchip();
  handle(0x23, end_pic);
  const auto vcpu = vcpu_with(sti + wait_for_ever);
  EXPECT_EQ(interrupts_->set_line(3, true), LineStatus::delivered);
  EXPECT_EQ(next_out(vcpu, handled), 0x23);
  EXPECT_EQ(vm_->x86_irqchip()->pic(IrqController::pic_master).isr, 1 << 3);
  interrupts_->set_line(3, false);
  EXPECT_NE(interrupts_->set_line(3, true), LineStatus::ignored);  // the next edge
  EXPECT_EQ(next_out(vcpu, handled), 0x23);
  EXPECT_EQ(interrupts_->set_line(4000, true), LineStatus::ignored);  // no route
  EXPECT_THROW(vcpu->interrupts()->interrupt(0x23), InvalidConfig);
  EXPECT_THROW(vcpu->interrupts()->set_task_priority(1), InvalidConfig);
}

TEST_F(Interrupt, ALineReachesTheIoapic) {
  create_irqchip();
  handle(0x45, end_apic);
  const auto chip = vm_->x86_irqchip();
  IoapicState ioapic = chip->ioapic();
  EXPECT_EQ(ioapic.base, 0xFEC0'0000U);
  EXPECT_TRUE(ioapic.redirections[17].masked);
  ioapic.redirections[17].vector = 0x45;
  ioapic.redirections[17].masked = false;
  chip->set_ioapic(ioapic);
  EXPECT_EQ(chip->ioapic().redirections[17].vector, 0x45);
  EXPECT_FALSE(chip->ioapic().redirections[17].masked);
  const auto vcpu = vcpu_with(enable_apic + out(reached) + sti + wait_for_ever, apic_base);
  next_out(vcpu, reached);
  EXPECT_EQ(interrupts_->set_line(17, true), LineStatus::delivered);
  EXPECT_EQ(next_out(vcpu, handled), 0x45);
}

TEST_F(Interrupt, AMessageReachesTheLocalApicOnceItIsOn) {
  create_irqchip();
  handle(0x50, end_apic);
  const auto vcpu = vcpu_with(enable_apic + out(reached) + sti + wait_for_ever, apic_base);
  EXPECT_FALSE(interrupts_->signal(x86_msi(0, 0x50)));
  next_out(vcpu, reached);
  EXPECT_FALSE(interrupts_->signal(x86_msi(7, 0x50)));  // nobody has this id
  EXPECT_TRUE(interrupts_->signal(x86_msi(0, 0x50)));
  EXPECT_EQ(next_out(vcpu, handled), 0x50);
}

TEST_F(Interrupt, AMessageCanBeAnNmi) {
  create_irqchip();
  handle(2);
  const auto vcpu = vcpu_with(enable_apic + out(reached) + cli + wait_for_ever, apic_base);
  next_out(vcpu, reached);
  EXPECT_TRUE(interrupts_->signal(x86_msi(0, 0, MsiDelivery::nmi)));
  EXPECT_EQ(next_out(vcpu, handled), 2);
}

TEST_F(Interrupt, AnEventRaisesALineWhileTheGuestSleeps) {
  create_irqchip();
  handle(0x24, end_pic);
  const auto event = std::make_shared<EventFd>();
  interrupts_->attach_irqfd(event, 4);
  EXPECT_THROW(interrupts_->attach_irqfd(event, 5), InvalidConfig);
  EXPECT_THROW(interrupts_->attach_irqfd(nullptr, 5), InvalidConfig);
  EXPECT_THROW(interrupts_->attach_irqfd(std::make_shared<EventFd>(), 1 << 20), InvalidConfig);
  ASSERT_EQ(interrupts_->irqfds().size(), 1U);
  EXPECT_EQ(interrupts_->irqfds()[0].gsi, 4U);
  const auto vcpu = vcpu_with(sti + wait_for_ever);
  for (int i = 0; i < 3; ++i) {
    std::thread writer([&] { event->write(); });
    EXPECT_EQ(next_out(vcpu, handled), 0x24);
    writer.join();
  }
  interrupts_->detach_irqfd(*event);
  EXPECT_THROW(interrupts_->detach_irqfd(*event), InvalidConfig);
  event->write();
  EXPECT_EQ(event->read(), 1U);  // it is ours again
  EXPECT_TRUE(std::holds_alternative<Timeout>(vcpu->run({MSec(20), nullptr})));
}

TEST_F(Interrupt, ALevelStaysUpUntilTheGuestHasEndedIt) {
  create_irqchip();
  PicState master = vm_->x86_irqchip()->pic(IrqController::pic_master);
  master.elcr = 1 << 5;
  vm_->x86_irqchip()->set_pic(IrqController::pic_master, master);
  handle(0x25, end_pic);
  const auto event = std::make_shared<EventFd>();
  const auto resample = std::make_shared<EventFd>();
  interrupts_->attach_irqfd(event, 5, resample);
  const auto vcpu = vcpu_with(sti + hlt + out(reached) + hlt);
  event->write();
  EXPECT_EQ(next_out(vcpu, handled), 0x25);
  EXPECT_EQ(resample->read(), std::nullopt);
  EXPECT_EQ(next_out(vcpu, reached), 0);
  ASSERT_TRUE(resample->wait(std::chrono::seconds(10)));
  EXPECT_EQ(resample->read(), 1U);
}

TEST_F(Interrupt, ASplitIrqchipTakesMessagesAndTellsTheEnd) {
  interrupts_->create_split_irqchip(24);
  EXPECT_EQ(interrupts_->irqchip(), IrqchipKind::split);
  EXPECT_TRUE(interrupts_->routes().empty());
  handle(0x60, end_apic);
  interrupts_->set_routes({{5, x86_msi(0, 0x60, MsiDelivery::fixed, false, true)}});
  const auto vcpu = vcpu_with(enable_apic + out(reached) + sti + wait_for_ever, apic_base);
  next_out(vcpu, reached);
  EXPECT_EQ(interrupts_->set_line(5, true), LineStatus::delivered);
  EXPECT_EQ(next_out(vcpu, handled), 0x60);
  const Exit end = run(vcpu);
  ASSERT_TRUE(std::holds_alternative<IoapicEoi>(end)) << exit_name(end);
  EXPECT_EQ(std::get<IoapicEoi>(end).vector, 0x60);
  EXPECT_THROW(interrupts_->set_routes({{5, IrqPin{IrqController::ioapic, 5}}}), InvalidConfig);
  EXPECT_THROW(interrupts_->attach_irqfd(std::make_shared<EventFd>(), 5, std::make_shared<EventFd>()), InvalidConfig);
  EXPECT_THROW(vm_->x86_irqchip()->ioapic(), InvalidConfig);
}

TEST_F(Interrupt, ASplitIrqchipTakesTheVectorOfTheUsersPic) {
  interrupts_->create_split_irqchip(0);
  handle(0x33);
  const auto vcpu = vcpu_with(sti + out(reached) + forever);
  next_out(vcpu, reached);
  vcpu->interrupts()->request_window();
  ASSERT_TRUE(std::holds_alternative<IrqWindowOpen>(run(vcpu)));
  vcpu->interrupts()->interrupt(0x33);
  EXPECT_EQ(next_out(vcpu, handled), 0x33);
}

TEST_F(Interrupt, TheTimerTicks) {
  create_irqchip();
  const auto chip = vm_->x86_irqchip();
  EXPECT_THROW(chip->pit(), InvalidConfig);
  chip->create_pit(true);
  EXPECT_THROW(chip->create_pit(true), InvalidConfig);
  chip->set_pit_reinjection(false);
  handle(0x20, end_pic);
  // Counter 0, low then high byte, mode 2, every 4096 cycles of 1.19 MHz (8254, control word).
  const auto vcpu = vcpu_with(out(0x43, 0x34) + out(0x40, 0) + out(0x40, 0x10) + sti + wait_for_ever);
  EXPECT_EQ(next_out(vcpu, handled), 0x20);
  EXPECT_EQ(next_out(vcpu, handled), 0x20);
  PitState pit = chip->pit();
  EXPECT_EQ(pit.channels[0].count, 0x1000U);
  EXPECT_EQ(pit.channels[0].mode, 2);
  pit.channels[2].mode = 3;
  pit.channels[2].count = 1234;
  pit.speaker_on = true;
  chip->set_pit(pit);
  EXPECT_EQ(chip->pit().channels[2].count, 1234U);
  EXPECT_EQ(chip->pit().channels[2].mode, 3);
  EXPECT_TRUE(chip->pit().speaker_on);
}

TEST_F(Interrupt, RoutesReplaceEachOther) {
  create_irqchip();
  EXPECT_EQ(interrupts_->routes(), default_x86_routes());
  handle(0x26, end_pic);
  const std::vector<GsiRoute> table = {{100, IrqPin{IrqController::pic_master, 6}}, {101, x86_msi(0, 0x70)}};
  interrupts_->set_routes(table);
  EXPECT_EQ(interrupts_->routes(), table);
  const auto vcpu = vcpu_with(sti + wait_for_ever);
  EXPECT_EQ(interrupts_->set_line(6, true), LineStatus::ignored);
  EXPECT_EQ(interrupts_->set_line(100, true), LineStatus::delivered);
  EXPECT_EQ(next_out(vcpu, handled), 0x26);
  EXPECT_THROW(interrupts_->set_routes({{1, IrqPin{IrqController::ioapic, 24}}}), InvalidConfig);
  EXPECT_EQ(interrupts_->routes(), table);
}

TEST_F(Interrupt, ComesTooLateOrTwice) {
  const auto chip = vm_->x86_irqchip();
  EXPECT_THROW(interrupts_->set_line(1, true), InvalidConfig);
  EXPECT_THROW(interrupts_->signal({}), InvalidConfig);
  EXPECT_THROW(interrupts_->set_routes({}), InvalidConfig);
  EXPECT_THROW(interrupts_->attach_irqfd(std::make_shared<EventFd>(), 1), InvalidConfig);
  EXPECT_THROW(chip->pic(IrqController::pic_master), InvalidConfig);
  EXPECT_THROW(chip->create_pit(false), InvalidConfig);
  EXPECT_THROW(interrupts_->create_split_irqchip(1 << 20), InvalidConfig);
  chip->set_tss_address(0xFFFB'D000);
  chip->set_identity_map_address(0xFFFB'C000);
  chip->set_boot_vcpu(0);
  EXPECT_THROW(chip->set_tss_address(0xFFFF'E000), InvalidConfig);
  EXPECT_THROW(chip->set_identity_map_address(0x1234), InvalidConfig);
  const auto vcpu = vm_->create_vcpu();
  EXPECT_THROW(interrupts_->create_irqchip(), InvalidConfig);
  EXPECT_THROW(interrupts_->create_split_irqchip(24), InvalidConfig);
  EXPECT_THROW(chip->set_identity_map_address(0xFFFB'C000), InvalidConfig);
  EXPECT_THROW(chip->set_boot_vcpu(1), InvalidConfig);
  EXPECT_EQ(interrupts_->irqchip(), IrqchipKind::none);
  const auto other = hypervisor_->create_vm();
  other->interrupts()->create_irqchip();
  EXPECT_THROW(other->interrupts()->create_irqchip(), InvalidConfig);
  EXPECT_THROW(other->x86_irqchip()->pic(IrqController::ioapic), InvalidConfig);
  other->close();
  EXPECT_THROW(other->interrupts(), ClosedError);
}

TEST_F(Interrupt, TheBootVcpuIsTheOneThatWasChosen) {
  create_irqchip();
  vm_->x86_irqchip()->set_boot_vcpu(1);
  const auto first = vcpu_with(out(reached) + hlt);
  const auto second = vcpu_with(out(reached) + hlt);
  EXPECT_EQ(next_out(second, reached), 0);
  EXPECT_TRUE(std::holds_alternative<Timeout>(first->run({MSec(20), nullptr})));  // it waits for a start-up message
}

using Pin = IrqPin;
constexpr IrqController io = IrqController::ioapic;

TEST(Routes, AreCheckedRowByRow) {
  const Msi message = x86_msi(0, 0x40);
  const std::vector<std::vector<GsiRoute>> good = {
      {}, default_x86_routes(), {{0, message}, {1, message}}, {{9, Pin{io, 9}}, {9, Pin{IrqController::pic_slave, 1}}}};
  for (const auto& table : good) EXPECT_NO_THROW(check_routes(table, IrqchipKind::kernel, 4096));
  const std::vector<std::vector<GsiRoute>> bad = {
      {{4096, message}},
      {{0, Pin{io, 24}}},
      {{0, Pin{IrqController::pic_master, 8}}},
      {{0, message}, {0, message}},
      {{0, Pin{io, 0}}, {0, message}},
      {{0, message}, {0, Pin{io, 0}}},
      {{0, Pin{io, 0}}, {0, Pin{io, 1}}},
      std::vector<GsiRoute>(4097, GsiRoute{0, message}),
  };
  for (const auto& table : bad) EXPECT_THROW(check_routes(table, IrqchipKind::kernel, 4096), InvalidConfig);
  EXPECT_THROW(check_routes({}, IrqchipKind::none, 4096), InvalidConfig);
}

TEST(Routes, MessagesAreEncodedAsTheManualSays) {
  EXPECT_EQ(x86_msi(0x12, 0x34), (Msi{0xFEE1'2000, 0x34}));
  EXPECT_EQ(x86_msi(1, 0x34, MsiDelivery::lowest_priority, true, true), (Msi{0xFEE0'1004, 0xC134}));
}

TEST(Routes, RedirectionsKeepTheirBits) {
  constexpr std::uint64_t meaningful = 0xFF00'0000'0001'FFFF;
  for (unsigned bit = 0; bit < 64; ++bit) {
    const std::uint64_t bits = std::uint64_t{1} << bit;
    EXPECT_EQ(IoapicRedirection::from_bits(bits).bits(), bits & meaningful) << bit;
  }
}

}  // namespace
}  // namespace vm::accel
