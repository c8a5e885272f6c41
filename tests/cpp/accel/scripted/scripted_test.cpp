// The scripted hypervisor keeps its word, and the front's rules hold on it.

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/accel/scripted/hypervisor.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

using namespace scripted;
using namespace std::chrono_literals;

std::vector<std::byte> bytes(const std::string& text) {
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}

Play port_write(const std::string& text) {
  return {IoOut{0x3F8, 1, static_cast<std::uint32_t>(text.size()), nullptr}, bytes(text)};
}

Play play(const Exit& exit) { return {exit, {}}; }

std::unique_ptr<ScriptedHypervisor> playing(std::vector<Step> steps, std::optional<std::size_t> repeat_from = {}) {
  Plan plan;
  plan.scripts[0] = {std::move(steps), repeat_from};
  return std::make_unique<ScriptedHypervisor>(std::move(plan));
}

template <class T>
bool is(const Exit& exit) {
  return std::holds_alternative<T>(exit);
}

std::vector<std::string> names(const std::vector<Call>& calls) {
  std::vector<std::string> result;
  for (const Call& call : calls) result.emplace_back(call_name(call.kind));
  return result;
}

TEST(Scripted, PlaysExitsInOrderAndSaysWhenItIsOver) {
  const auto hypervisor = playing({port_write("hi"), play(IoIn{0x60, 1, 1}), play(Hlt{})});
  const auto vm = hypervisor->create_vm();
  const auto vcpu = vm->create_vcpu();
  const auto& out = std::get<IoOut>(vcpu->run());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(out.data), out.count), "hi");
  EXPECT_TRUE(is<IoIn>(vcpu->run()));
  EXPECT_THROW(vcpu->run(), InvalidConfig);  // unanswered
  vcpu->reply("x", 1);
  EXPECT_TRUE(is<Hlt>(vcpu->run()));
  try {
    vcpu->run();
    FAIL() << "the script has no fourth exit";
  } catch (const InvalidConfig& error) {
    EXPECT_NE(std::string(error.what()).find("is over after its 3 steps"), std::string::npos) << error.what();
  }
  EXPECT_THROW(vm->create_vcpu(1)->run(), InvalidConfig);  // vCPU 1 has no script
}

TEST(Scripted, EveryVcpuOfEveryVmPlaysItsOwnScript) {
  Plan plan;
  plan.scripts[0] = {{play(Hlt{})}, {}};
  plan.scripts[1] = {{play(Shutdown{})}, 0};
  ScriptedHypervisor hypervisor(std::move(plan));
  for (int i = 0; i < 2; ++i) {
    const auto vm = hypervisor.create_vm();
    EXPECT_TRUE(is<Hlt>(vm->create_vcpu()->run()));
    const auto second = vm->create_vcpu();
    for (int run = 0; run < 3; ++run) EXPECT_TRUE(is<Shutdown>(second->run()));
  }
}

TEST(Scripted, AStepTouchesRegistersAndMemory) {
  std::vector<std::byte> seen;
  const auto hypervisor =
      playing({play(IoIn{0x60, 2, 1}), Do{[&](Guest& guest) {
                 seen = guest.reply;
                 guest.regs.rax += 1;
                 guest.sregs.cr3 = 0x5000;
                 guest.memory->write(0x1000, "ok", 2);
                 EXPECT_THROW(guest.memory->write(1 << 20, "no", 2), AccessViolation);
                 EXPECT_THROW(guest.memory->write(1 << 30, "no", 2), OutOfRange);
               }},
               play(Hlt{}), Do{[](Guest&) { throw ClosedError("thrown by the step"); }}, play(Hlt{})});
  const auto vm = hypervisor->create_vm();
  const auto memory = mem::GuestMemory::anonymous(1 << 16);
  vm->map(*memory);
  vm->map(*mem::GuestMemory::anonymous(4096, 1 << 20), {true, false});
  const auto vcpu = vm->create_vcpu();
  X86Regs regs = vcpu->x86()->regs();
  EXPECT_EQ(regs.rip, 0xFFF0U);
  EXPECT_EQ(vcpu->x86()->sregs().cs.base, 0xFFFF0000U);
  regs.rax = 41;
  vcpu->x86()->set_regs(regs);
  vcpu->run();
  vcpu->reply("xy", 2);
  EXPECT_TRUE(is<Hlt>(vcpu->run()));
  EXPECT_EQ(seen, bytes("xy"));
  EXPECT_EQ(vcpu->x86()->regs().rax, 42U);
  EXPECT_EQ(vcpu->x86()->sregs().cr3, 0x5000U);
  char text[2];
  memory->read(0x1000, text, 2);
  EXPECT_EQ(std::string(text, 2), "ok");
  EXPECT_THROW(vcpu->run(), ClosedError);
  EXPECT_TRUE(is<Hlt>(vcpu->run()));
}

TEST(Scripted, WritesDownWhatWasAsked) {
  const auto hypervisor = playing({play(IoIn{0x60, 1, 1}), play(RdMsr{0x1B, 4}), play(Hlt{})});
  const auto vm = hypervisor->create_vm();
  vm->map(*mem::GuestMemory::anonymous(8192, 0x4000));
  vm->move(0x4000, 0x8000);
  const auto vcpu = vm->create_vcpu();
  X86Regs regs;
  regs.rbx = 7;
  vcpu->x86()->set_regs(regs);
  vcpu->run();
  vcpu->reply("a", 1);
  vcpu->run();
  vcpu->refuse();
  vcpu->complete();
  vcpu->run();
  vm->unmap(0x8000);
  const std::vector<Call> calls = hypervisor->calls();
  const std::vector<std::string> expected = {"create_vm", "add_slot", "change_slot", "create_vcpu",
                                             "set_regs",  "run",      "reply",       "run",
                                             "refuse",    "complete", "run",         "remove_slot"};
  ASSERT_EQ(names(calls), expected);
  const auto& slot = std::get<MemorySlot>(calls[1].value);
  EXPECT_EQ(slot.base, 0x4000U);
  EXPECT_EQ(slot.size, 8192U);
  EXPECT_FALSE(slot.mapping);
  EXPECT_EQ(std::get<SlotChange>(calls[2].value).after.base, 0x8000U);
  EXPECT_EQ(std::get<X86Regs>(calls[4].value).rbx, 7U);
  EXPECT_TRUE(is<IoIn>(std::get<Exit>(calls[5].value)));
  EXPECT_EQ(std::get<std::vector<std::byte>>(calls[6].value), bytes("a"));
  EXPECT_EQ(calls[6].vcpu, 0U);
  hypervisor->forget_calls();
  EXPECT_TRUE(hypervisor->calls().empty());
}

TEST(Scripted, KeepsTheStateOfAProcessor) {
  const auto hypervisor = playing({play(Hlt{})});
  const auto vm = hypervisor->create_vm();
  const auto memory = mem::GuestMemory::anonymous(1 << 16);
  vm->map(*memory);
  const auto vcpu = vm->create_vcpu();
  X86Fpu fpu;
  fpu.xmm[3][0] = 7;
  vcpu->x86()->set_fpu(fpu);
  EXPECT_EQ(vcpu->x86()->fpu().xmm[3][0], 7);
  EXPECT_EQ(vcpu->x86()->xsave().legacy().xmm[3][0], 7);
  EXPECT_THROW(vcpu->x86()->set_xsave(X86Xsave(std::vector<std::uint8_t>(4096))), InvalidConfig);
  vcpu->x86()->set_msrs({{0xC0000100, 0x1234}, {0xC0000082, 0x5678}});
  EXPECT_EQ(vcpu->x86()->sregs().fs.base, 0x1234U);
  EXPECT_EQ(vcpu->x86()->msrs({0xC0000082, 0x1B, 0x10})[0].value, 0x5678U);
  EXPECT_EQ(vcpu->x86()->msrs({0x1B})[0].value, 0xFEE00900U);
  EXPECT_THROW(vcpu->x86()->lapic(), InvalidConfig);
  EXPECT_THROW(vcpu->x86()->nested_state(), NotSupported);
  EXPECT_EQ(std::get<std::string>(hypervisor->calls().back().value), "msrs");

  EXPECT_EQ(vcpu->x86()->translate(0x1234).paddr, 0x1234U);  // no paging
  EXPECT_FALSE(vcpu->x86()->pdptrs());
  X86SpecialRegs sregs = vcpu->x86()->sregs();
  sregs.cr0 |= 0x80000001;  // PAE paging over one page of 2 MiB
  sregs.cr4 |= 0x20;
  sregs.cr3 = 0x1000;
  const std::uint64_t pointer = 0x2001;
  const std::uint64_t page = 0x400083;
  memory->write(0x1000, &pointer, sizeof pointer);
  memory->write(0x2000, &page, sizeof page);
  vcpu->x86()->set_sregs(sregs);
  EXPECT_EQ(vcpu->x86()->pdptrs()->at(0), pointer);
  const X86Translation found = vcpu->x86()->translate(0x1234);
  EXPECT_TRUE(found.valid && found.writable && !found.user);
  EXPECT_EQ(found.paddr, 0x401234U);
  EXPECT_FALSE(vcpu->x86()->translate(0x40000000).valid);
}

TEST(Scripted, FailsWhereTold) {
  const auto hypervisor = playing({play(Hlt{}), play(Hlt{}), play(Hlt{}), Fail{EIO}, play(Hlt{})});
  hypervisor->fail(CallKind::create_vm, ENOMEM);
  EXPECT_THROW(hypervisor->create_vm(), ResourceExhausted);
  const auto vm = hypervisor->create_vm();
  hypervisor->fail(CallKind::add_slot, EOPNOTSUPP);
  EXPECT_THROW(vm->map(*mem::GuestMemory::anonymous(4096)), NotSupported);
  EXPECT_TRUE(vm->slots().empty());
  const auto vcpu = vm->create_vcpu();
  hypervisor->fail(CallKind::run, EFAULT, 3);
  EXPECT_TRUE(is<Hlt>(vcpu->run()));
  EXPECT_TRUE(is<Hlt>(vcpu->run()));
  try {
    vcpu->run();
    FAIL() << "the third run was to fail";
  } catch (const PlatformError& error) {
    EXPECT_EQ(error.code(), EFAULT);
  }
  EXPECT_EQ(hypervisor->calls().back().error, EFAULT);
  EXPECT_TRUE(is<Hlt>(vcpu->run()));
  EXPECT_THROW(vcpu->run(), PlatformError);  // the step
  EXPECT_TRUE(is<Hlt>(vcpu->run()));
  EXPECT_THROW(vm->create_vcpu(64), PlatformError);
  EXPECT_THROW(hypervisor->fail(CallKind::run, 0), InvalidConfig);
}

TEST(Scripted, ChecksScriptsBeforeTheyAreUsed) {
  EXPECT_THROW(playing({Play{IoOut{0x3F8, 1, 2, nullptr}, bytes("abc")}}), InvalidConfig);
  EXPECT_THROW(playing({play(IoIn{0x60, 3, 1})}), InvalidConfig);
  EXPECT_THROW(playing({play(MmioRead{0, 9})}), InvalidConfig);
  EXPECT_THROW(playing({Do{}}), InvalidConfig);
  EXPECT_THROW(playing({Fail{}}), InvalidConfig);
  EXPECT_THROW(playing({play(Hlt{})}, 1), InvalidConfig);
  EXPECT_THROW(playing({play(Hlt{}), Do{[](Guest&) {}}}, 1), InvalidConfig);
  EXPECT_THROW(parse_call("reset"), InvalidConfig);
  EXPECT_EQ(parse_call("change_slot"), CallKind::change_slot);
}

TEST(Scripted, LimitsAreThePlans) {
  Plan plan;
  plan.max_slots = 2;
  plan.architecture = Architecture::aarch64;
  ScriptedHypervisor hypervisor(std::move(plan));
  const auto vm = hypervisor.create_vm();
  for (std::uint64_t i = 0; i < 2; ++i) vm->map(*mem::GuestMemory::anonymous(4096, i << 20));
  EXPECT_THROW(vm->map(*mem::GuestMemory::anonymous(4096, 1 << 30)), ResourceExhausted);
  const auto vcpu = vm->create_vcpu();
  EXPECT_THROW(vcpu->x86(), NotSupported);
}

TEST(Scripted, ABlockEndsWithTheRunThatItHeldUp) {
  const auto hypervisor = playing({Block{}, Block{}, play(Hlt{})});
  const auto vm = hypervisor->create_vm();
  const auto vcpu = vm->create_vcpu();
  EXPECT_TRUE(is<Timeout>(vcpu->run({1ms, nullptr})));
  vcpu->kick();  // the same when the kick comes before the run
  EXPECT_TRUE(is<Interrupted>(vcpu->run()));
  EXPECT_TRUE(is<Hlt>(vcpu->run()));
  EXPECT_EQ(hypervisor->nudges(), 2U);
}

TEST(Scripted, ASignalInterruptsABlockOnlyForTheCheck) {
  class Count : public SignalCheck {
   public:
    explicit Count(Vcpu& vcpu) : vcpu_(vcpu) {}
    void check() override {
      if (++checks == 3) vcpu_.kick();
    }
    std::chrono::nanoseconds interval() const noexcept override { return 1ms; }
    int checks = 0;

   private:
    Vcpu& vcpu_;
  };
  const auto hypervisor = playing({Block{}, play(Hlt{})});
  const auto vm = hypervisor->create_vm();
  const auto vcpu = vm->create_vcpu();
  Count signals(*vcpu);
  EXPECT_TRUE(is<Interrupted>(vcpu->run({std::nullopt, &signals})));
  EXPECT_EQ(signals.checks, 3);
  EXPECT_TRUE(is<Hlt>(vcpu->run()));
}

TEST(Scripted, KicksFromAnotherThreadAreAllSeen) {
  const auto hypervisor = playing({Block{}}, 0);
  const auto vm = hypervisor->create_vm();
  const auto vcpu = vm->create_vcpu();
  constexpr int rounds = 5'000;
  std::atomic<int> seen{0};
  std::thread kicker([&] {
    for (int i = 0; i < rounds; ++i) {
      vcpu->kick();
      while (seen.load() <= i) std::this_thread::yield();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    ASSERT_TRUE(is<Interrupted>(vcpu->run({10s, nullptr}))) << i;
    ++seen;
  }
  kicker.join();
  EXPECT_TRUE(is<Timeout>(vcpu->run({1ms, nullptr})));  // none is left over
}

std::atomic<Vcpu*> kicked_by_signal{nullptr};

TEST(Scripted, ASignalHandlerOfTheSameThreadMayKick) {
  const auto hypervisor = playing({Block{}}, 0);
  const auto vm = hypervisor->create_vm();
  const auto vcpu = vm->create_vcpu();
  kicked_by_signal = vcpu.get();
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) { kicked_by_signal.load()->kick(); };
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  constexpr int rounds = 200;
  std::atomic<int> seen{0};
  std::thread sender([&, runner = pthread_self()] {
    for (int i = 0; i < rounds; ++i) {
      pthread_kill(runner, SIGUSR1);
      while (seen.load() <= i) std::this_thread::yield();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    ASSERT_TRUE(is<Interrupted>(vcpu->run({10s, nullptr}))) << i;
    ++seen;
  }
  sender.join();
  sigaction(SIGUSR1, &before, nullptr);
}

TEST(Scripted, ClosingEndsABlock) {
  const auto hypervisor = playing({Block{}});
  const auto vm = hypervisor->create_vm();
  const auto vcpu = vm->create_vcpu();
  std::atomic<bool> entered{false};
  std::thread runner([&] {
    vcpu->attach();
    entered = true;
    EXPECT_THROW(vcpu->run({10s, nullptr}), ClosedError);
  });
  while (!entered.load()) std::this_thread::yield();
  hypervisor->close();
  runner.join();
  EXPECT_THROW(hypervisor->create_vm(), ClosedError);
}

}  // namespace
}  // namespace vm::accel
