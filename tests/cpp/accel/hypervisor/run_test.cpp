// The rules of running on every backend that works here.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {
namespace {

using namespace std::chrono_literals;

class Run : public testing::Test {
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
  }

  /// A vCPU in real mode about to execute `code` at 0x1000.
  std::shared_ptr<Vcpu> vcpu_with(const std::vector<std::uint8_t>& code) {
    memory_->write(0x1000, code.data(), code.size());
    auto vcpu = vm_->create_vcpu();
    X86SpecialRegs sregs = vcpu->x86()->sregs();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    vcpu->x86()->set_sregs(sregs);
    X86Regs regs;
    regs.rip = 0x1000;
    regs.rax = regs.rbx = 2;
    vcpu->x86()->set_regs(regs);
    return vcpu;
  }

  std::shared_ptr<Hypervisor> hypervisor_;
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<mem::GuestMemory> memory_;
};

const std::vector<std::uint8_t> forever = {0xEB, 0xFE};  // jmp $

TEST_F(Run, AForkedProcessCanDropWhatItInherited) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer does not follow a fork of a process with several threads";
#endif
  auto vcpu = vcpu_with(forever);
  EXPECT_TRUE(
      std::holds_alternative<Timeout>(vcpu->run({1ms, nullptr})));  // the thread that watches the clock is there
  const pid_t child = ::fork();
  if (child == 0) {
    ::alarm(20);
    vm_->close();
    vcpu.reset();
    vm_.reset();
    ::_exit(0);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(std::holds_alternative<Timeout>(vcpu->run({1ms, nullptr})));
}

TEST_F(Run, PortsCarryData) {
  // mov dx, 0x3f8; add al, bl; add al, '0'; out dx, al; in al, dx; out dx, al; hlt
  const auto vcpu = vcpu_with({0xBA, 0xF8, 0x03, 0x00, 0xD8, 0x04, '0', 0xEE, 0xEC, 0xEE, 0xF4});
  const Exit out = vcpu->run();
  ASSERT_TRUE(std::holds_alternative<IoOut>(out)) << exit_name(out);
  EXPECT_EQ(std::get<IoOut>(out).port, 0x3F8);
  EXPECT_EQ(static_cast<char>(*std::get<IoOut>(out).data), '4');
  const Exit in = vcpu->run();
  ASSERT_TRUE(std::holds_alternative<IoIn>(in)) << exit_name(in);
  EXPECT_THROW(vcpu->run(), InvalidConfig);
  EXPECT_THROW(vcpu->reply("ab", 2), InvalidConfig);
  vcpu->reply("x", 1);
  EXPECT_THROW(vcpu->reply("x", 1), InvalidConfig);
  EXPECT_EQ(static_cast<char>(*std::get<IoOut>(vcpu->run()).data), 'x');
  EXPECT_TRUE(std::holds_alternative<Hlt>(vcpu->run()));
  EXPECT_EQ(vcpu->exit_counts()[Exit(IoOut{}).index()], 2U);
}

TEST_F(Run, ATimeoutEndsALoop) {
  const auto vcpu = vcpu_with(forever);
  const RunOptions options{20ms, nullptr};
  EXPECT_TRUE(std::holds_alternative<Timeout>(vcpu->run(options)));
  EXPECT_TRUE(std::holds_alternative<Timeout>(vcpu->run(options)));
  EXPECT_TRUE(std::holds_alternative<Timeout>(vcpu->run({0ns, nullptr})));
}

TEST_F(Run, AKickBeforeTheRunIsNotLostAndNotSeenTwice) {
  const auto vcpu = vcpu_with(forever);
  vcpu->kick();
  vcpu->kick();
  EXPECT_TRUE(std::holds_alternative<Interrupted>(vcpu->run()));
  EXPECT_TRUE(std::holds_alternative<Timeout>(vcpu->run({20ms, nullptr})));
}

TEST_F(Run, KicksFromAnotherThreadAreAllSeen) {
  const auto vcpu = vcpu_with(forever);
  constexpr int rounds = 2'000;
  std::atomic<int> seen{0};
  std::thread kicker([&] {
    for (int i = 0; i < rounds; ++i) {
      vcpu->kick();
      while (seen.load() <= i) std::this_thread::yield();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    ASSERT_TRUE(std::holds_alternative<Interrupted>(vcpu->run({10s, nullptr}))) << i;
    ++seen;
  }
  kicker.join();
}

TEST_F(Run, AnotherThreadHasToAttach) {
  const auto vcpu = vcpu_with({0xF4});
  std::thread([&] {
    EXPECT_THROW(vcpu->run(), AccessViolation);
    EXPECT_THROW(vcpu->x86()->regs(), AccessViolation);
    vcpu->attach();
    EXPECT_TRUE(std::holds_alternative<Hlt>(vcpu->run()));
  }).join();
  EXPECT_THROW(vcpu->run(), AccessViolation);
}

TEST_F(Run, ClosingEndsARun) {
  const auto vcpu = vcpu_with(forever);
  std::atomic<bool> entered{false};
  std::thread runner([&] {
    vcpu->attach();
    entered = true;
    EXPECT_THROW(vcpu->run({10s, nullptr}), ClosedError);
  });
  while (!entered.load()) std::this_thread::yield();
  vm_->close();
  runner.join();
  EXPECT_TRUE(vcpu->closed());
  EXPECT_THROW(vm_->create_vcpu(), ClosedError);
  EXPECT_THROW(vcpu->attach(), ClosedError);
  vcpu->kick();  // of no effect, and no harm
}

TEST_F(Run, SlotsAreCheckedBeforeAnythingChanges) {
  EXPECT_THROW(vm_->map(*mem::GuestMemory::anonymous(4096, 0x1000)), InvalidConfig);
  EXPECT_THROW(vm_->map(*mem::GuestMemory::anonymous(100, 1 << 20)), InvalidConfig);
  EXPECT_THROW(vm_->unmap(0x1000), OutOfRange);
  ASSERT_EQ(vm_->slots().size(), 1U);
  vm_->move(0, 1 << 20);
  EXPECT_EQ(vm_->slots()[0].base, 1U << 20);
  vm_->set_flags(1 << 20, {true, false});
  EXPECT_TRUE(vm_->slots()[0].flags.read_only);
  vm_->unmap(1 << 20);
  EXPECT_TRUE(vm_->slots().empty());
}

TEST_F(Run, MemoryOutlivesItsOwner) {
  const auto vcpu = vcpu_with({0xF4});
  memory_->close();
  memory_.reset();
  EXPECT_TRUE(std::holds_alternative<Hlt>(vcpu->run()));
  std::uint8_t byte = 0;
  vm_->memory()->read(0x1000, &byte, 1);
  EXPECT_EQ(byte, 0xF4);
}

TEST(Backends, AreNamedWithReasons) {
  for (const BackendInfo& backend : available_backends()) EXPECT_EQ(backend.works, backend.reason.empty());
  EXPECT_THROW(create_hypervisor("bochs"), InvalidConfig);
}

}  // namespace
}  // namespace vm::accel
