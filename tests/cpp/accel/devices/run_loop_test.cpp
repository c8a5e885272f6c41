// Guests whose exits devices answer, on every backend that works here.

#include "vm/accel/devices/run_loop.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/devices/ports.hpp"
#include "vm/accel/devices/serial.hpp"
#include "vm/accel/devices/test_device.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {
namespace {

using namespace std::chrono_literals;

class RunLoop : public testing::Test {
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
    bus_.add_ports(Serial::com1, Serial::ports, std::make_shared<Serial>(output_));
    bus_.add_ports(DebugExit::port, DebugExit::ports, std::make_shared<DebugExit>(stop_));
  }

  /// A vCPU in real mode about to execute `code` at `at`.
  std::shared_ptr<Vcpu> vcpu_with(const std::vector<std::uint8_t>& code, std::uint64_t at = 0x1000) {
    memory_->write(at, code.data(), code.size());
    auto vcpu = vm_->create_vcpu();
    X86SpecialRegs sregs = vcpu->x86()->sregs();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    vcpu->x86()->set_sregs(sregs);
    X86Regs regs;
    regs.rip = at;
    vcpu->x86()->set_regs(regs);
    vcpus_.push_back(vcpu);
    return vcpu;
  }

  template <class T>
  static bool is(const LoopResult& result) {
    return !result.stop && std::holds_alternative<T>(result.exit);
  }

  std::shared_ptr<Hypervisor> hypervisor_;
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<mem::GuestMemory> memory_;
  std::shared_ptr<BufferSink> output_ = std::make_shared<BufferSink>();
  std::shared_ptr<StopRequest> stop_ = std::make_shared<StopRequest>();
  DeviceBus bus_;
  std::vector<std::shared_ptr<Vcpu>> vcpus_;  // a VM does not keep them
};

const std::vector<std::uint8_t> forever = {0xEB, 0xFE};  // jmp $

TEST_F(RunLoop, DevicesAnswerUntilOneEndsTheMachine) {
  // mov dx, 0x3f8; mov si, 0x1100; mov cx, 5; rep outsb; mov al, 3; out 0xf4, al; hlt
  vcpu_with({0xBA, 0xF8, 0x03, 0xBE, 0x00, 0x11, 0xB9, 0x05, 0x00, 0xF3, 0x6E, 0xB0, 0x03, 0xE6, 0xF4, 0xF4});
  memory_->write(0x1100, "hello", 5);
  const LoopResult result = run_vm(*vm_, bus_, *stop_);
  ASSERT_TRUE(result.stop);
  EXPECT_EQ(result.stop->kind, StopKind::exit);
  EXPECT_EQ(result.stop->status, 7U);
  EXPECT_EQ(output_->text(), "hello");
  EXPECT_TRUE(std::holds_alternative<IoOut>(result.exit));
}

TEST_F(RunLoop, ARequestReachesAGuestThatNeverExits) {
  const auto vcpu = vcpu_with({0xC6, 0x06, 0x00, 0x11, 0x01, 0xEB, 0xFE});  // mov byte [0x1100], 1; jmp $
  std::thread other([this] {
    const auto end = std::chrono::steady_clock::now() + 20s;
    for (std::uint8_t begun = 0; begun == 0 && std::chrono::steady_clock::now() < end; std::this_thread::yield())
      memory_->read(0x1100, &begun, 1);
    stop_->request({StopKind::cancelled, 0, "a thread"});
  });
  LoopOptions options;
  options.timeout = 30s;
  const LoopResult result = run_vcpu(*vcpu, bus_, *stop_, options);
  other.join();
  ASSERT_TRUE(result.stop);
  EXPECT_TRUE(std::holds_alternative<Interrupted>(result.exit));
  EXPECT_TRUE(std::holds_alternative<Timeout>(vcpu->run({10ms, nullptr})));  // its kick is not left over
}

/// Closes the VM that is just being answered.
class ClosingDevice final : public Device {
 public:
  ClosingDevice(std::shared_ptr<Vm> vm, std::shared_ptr<StopRequest> stop)
      : vm_(std::move(vm)), stop_(std::move(stop)) {}
  std::uint64_t read(std::uint64_t /*offset*/, unsigned /*width*/) override { return 0; }
  void write(std::uint64_t /*offset*/, unsigned /*width*/, std::uint64_t /*value*/) override {
    if (stop_) stop_->request({StopKind::power_off, 0, ""});
    vm_->close();
  }

 private:
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<StopRequest> stop_;
};

// mov dx, 0x80; mov eax, 0x44332211; out dx, eax; hlt
const std::vector<std::uint8_t> four_bytes = {0xBA, 0x80, 0x00, 0x66, 0xB8, 0x11, 0x22, 0x33, 0x44, 0x66, 0xEF, 0xF4};

TEST_F(RunLoop, ADeviceMayCloseTheMachineInTheMiddleOfAnAccess) {
  const auto rest = std::make_shared<MemoryDevice>(8);
  bus_.add_ports(0x80, 1, std::make_shared<ClosingDevice>(vm_, nullptr));
  bus_.add_ports(0x81, 3, rest);
  const auto vcpu = vcpu_with(four_bytes);
  EXPECT_THROW(run_vcpu(*vcpu, bus_, *stop_), ClosedError);
  EXPECT_EQ(rest->read(0, 4), 0x00443322U);
}

TEST_F(RunLoop, TheBytesOfTheLastExitOutliveAVcpu) {
  bus_.add_ports(0x80, 4, std::make_shared<ClosingDevice>(vm_, stop_));
  const auto vcpu = vcpu_with(four_bytes);
  const LoopResult result = run_vcpu(*vcpu, bus_, *stop_);
  ASSERT_TRUE(result.stop);
  EXPECT_TRUE(vcpu->closed());
  EXPECT_EQ(std::to_integer<unsigned>(std::get<IoOut>(result.exit).data[3]), 0x44U);
}

TEST_F(RunLoop, TheBytesOfTheLastExitOutliveAMachine) {
  bus_.add_ports(0x80, 4, std::make_shared<ClosingDevice>(vm_, stop_));
  const auto vcpu = vcpu_with(four_bytes);
  const LoopResult result = run_vm(*vm_, bus_, *stop_);
  ASSERT_TRUE(result.stop);
  EXPECT_TRUE(vcpu->closed());
  EXPECT_EQ(std::to_integer<unsigned>(std::get<IoOut>(result.exit).data[3]), 0x44U);
}

TEST_F(RunLoop, StringInputComesItemByItem) {
  const auto serial = std::make_shared<Serial>(nullptr);
  serial->feed(reinterpret_cast<const std::byte*>("abcdef"), 6);
  bus_.add_ports(0x100, Serial::ports, serial);
  // mov dx, 0x100; mov di, 0x2000; mov cx, 6; cld; rep insb; hlt
  const auto vcpu = vcpu_with({0xBA, 0x00, 0x01, 0xBF, 0x00, 0x20, 0xB9, 0x06, 0x00, 0xFC, 0xF3, 0x6C, 0xF4});
  EXPECT_TRUE(is<Hlt>(run_vcpu(*vcpu, bus_, *stop_)));
  std::string got(6, ' ');
  memory_->read(0x2000, got.data(), got.size());
  EXPECT_EQ(got, "abcdef");
}

TEST_F(RunLoop, MemoryDevicesAnswerBothWays) {
  bus_.add_memory(0x100000, 0x1000, std::make_shared<MemoryDevice>(0x1000));
  // mov ax, 0xffff; mov ds, ax; mov word [0x10], 0x1234; mov ax, [0x10]; mov bx, [0x1010]; hlt: DS:0x10 is 1 MiB
  const auto vcpu = vcpu_with({0xB8, 0xFF, 0xFF, 0x8E, 0xD8, 0xC7, 0x06, 0x10, 0x00, 0x34, 0x12, 0xA1, 0x10, 0x00, 0x8B,
                               0x1E, 0x10, 0x10, 0xF4});
  EXPECT_TRUE(is<Hlt>(run_vcpu(*vcpu, bus_, *stop_)));
  EXPECT_EQ(vcpu->x86()->regs().rax & 0xFFFF, 0x1234U);
  EXPECT_EQ(vcpu->x86()->regs().rbx & 0xFFFF, 0xFFFFU);
  EXPECT_EQ(bus_.unclaimed(BusSpace::memory).reads, 1U);
}

TEST_F(RunLoop, UnclaimedAccessesReadOnesOrEndTheLoop) {
  const std::vector<std::uint8_t> code = {0xE4, 0x99, 0xE6, 0x99, 0xF4};  // in al, 0x99; out 0x99, al; hlt
  const auto vcpu = vcpu_with(code);
  EXPECT_TRUE(is<Hlt>(run_vcpu(*vcpu, bus_, *stop_)));
  EXPECT_EQ(vcpu->x86()->regs().rax & 0xFF, 0xFFU);
  EXPECT_EQ(bus_.unclaimed(BusSpace::port).reads, 1U);
  EXPECT_EQ(bus_.unclaimed(BusSpace::port).writes, 1U);
  const auto strict = vcpu_with(code, 0x2000);
  LoopOptions options;
  options.stop_at_unclaimed = true;
  ASSERT_TRUE(is<IoIn>(run_vcpu(*strict, bus_, *stop_, options)));
  strict->reply("\x07", 1);
  const LoopResult write = run_vcpu(*strict, bus_, *stop_, options);
  ASSERT_TRUE(is<IoOut>(write));
  EXPECT_EQ(std::to_integer<int>(*std::get<IoOut>(write.exit).data), 7);
  EXPECT_TRUE(is<Hlt>(run_vcpu(*strict, bus_, *stop_, options)));
}

TEST_F(RunLoop, TheFirstVcpuToEndCallsTheOthersBack) {
  vcpu_with(forever);
  const auto printing = vcpu_with({0xE6, 0x80, 0xEB, 0xFC}, 0x2000);  // out 0x80, al; jmp back
  vcpu_with({0xF4}, 0x3000);
  const LoopResult result = run_vm(*vm_, bus_, *stop_);
  EXPECT_TRUE(is<Hlt>(result)) << exit_name(result.exit);
  EXPECT_EQ(result.vcpu, 2U);
  // They belong to this thread again, and no kick of the loop is left over.
  for (const auto& vcpu : vm_->vcpus()) EXPECT_FALSE(vcpu->take_kick());
  EXPECT_TRUE(std::holds_alternative<IoOut>(printing->run()));
}

TEST_F(RunLoop, ATimeoutEndsAllVcpus) {
  for (int i = 0; i < 3; ++i) vcpu_with(forever);
  LoopOptions options;
  options.timeout = 30ms;
  EXPECT_TRUE(is<Timeout>(run_vm(*vm_, bus_, *stop_, options)));
  EXPECT_TRUE(is<Timeout>(run_vm(*vm_, bus_, *stop_, options)));
}

TEST_F(RunLoop, AnotherThreadCanStopIt) {
  vcpu_with(forever);
  vcpu_with(forever, 0x2000);
  std::thread other([this] { stop_->request({StopKind::cancelled, 0, "the test"}); });
  const LoopResult result = run_vm(*vm_, bus_, *stop_);
  other.join();
  ASSERT_TRUE(result.stop);
  EXPECT_EQ(result.stop->kind, StopKind::cancelled);
  stop_->clear();
  LoopOptions options;
  options.timeout = 10ms;
  EXPECT_TRUE(is<Timeout>(run_vm(*vm_, bus_, *stop_, options)));
}

class Broken final : public Device {
 public:
  std::uint64_t read(std::uint64_t, unsigned) override { throw std::runtime_error("broken"); }
  void write(std::uint64_t, unsigned, std::uint64_t) override { throw std::runtime_error("broken"); }
};

TEST_F(RunLoop, WhatADeviceThrowsEndsTheLoop) {
  vcpu_with(forever);
  vcpu_with({0xE6, 0x70, 0xEB, 0xFC}, 0x2000);
  bus_.add_ports(0x70, 1, std::make_shared<Broken>());
  EXPECT_THROW(run_vm(*vm_, bus_, *stop_), std::runtime_error);
  bus_.remove(BusSpace::port, 0x70);
  LoopOptions options;
  options.timeout = 10ms;
  EXPECT_TRUE(is<Timeout>(run_vm(*vm_, bus_, *stop_, options)));
}

/// Throws at the first question, as Python does for Ctrl-C.
class Interrupt final : public SignalCheck {
 public:
  void check() override { throw std::runtime_error("interrupted"); }
  std::chrono::nanoseconds interval() const noexcept override { return 5ms; }
};

TEST_F(RunLoop, SignalsEndTheLoop) {
  vcpu_with({0xE6, 0x80, 0xEB, 0xFC});  // exits without end: no gap in which run() would ask
  vcpu_with(forever, 0x2000);
  Interrupt signals;
  LoopOptions options;
  options.signals = &signals;
  EXPECT_THROW(run_vm(*vm_, bus_, *stop_, options), std::runtime_error);
}

TEST_F(RunLoop, WantsAVcpu) { EXPECT_THROW(run_vm(*vm_, bus_, *stop_), InvalidConfig); }

TEST_F(RunLoop, ClosingTheVmEndsIt) {
  vcpu_with(forever);
  vcpu_with(forever, 0x2000);
  std::thread other([this] { vm_->close(); });
  EXPECT_THROW(run_vm(*vm_, bus_, *stop_), ClosedError);
  other.join();
}

}  // namespace
}  // namespace vm::accel
