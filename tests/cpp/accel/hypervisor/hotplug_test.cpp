// vCPUs that come and go while others run.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <variant>
#include <vector>

#include "real_mode_guest.hpp"

namespace vm::accel {
namespace {

class Hotplug : public RealMode {
 protected:
  /// Has the calling thread's vCPU execute from `at`.
  static void start(const std::shared_ptr<Vcpu>& vcpu, std::uint64_t at) {
    X86SpecialRegs sregs = vcpu->x86()->sregs();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    vcpu->x86()->set_sregs(sregs);
    X86Regs regs;
    regs.rip = at;
    vcpu->x86()->set_regs(regs);
  }
};

/// A vCPU in a loop on its own thread until it is parked or closed.
class Spinning {
 public:
  explicit Spinning(std::shared_ptr<Vcpu> vcpu) : vcpu_(std::move(vcpu)) {
    thread_ = std::thread([this] {
      vcpu_->attach();
      entered_ = true;
      try {
        vcpu_->run({std::chrono::seconds(30), nullptr});
      } catch (const ClosedError&) {
        ended_ = true;
      }
    });
    while (!entered_.load()) std::this_thread::yield();
  }
  ~Spinning() {
    vcpu_->close();
    thread_.join();
  }
  bool join() {
    thread_.join();
    thread_ = std::thread([] {});
    return ended_.load();
  }

 private:
  std::shared_ptr<Vcpu> vcpu_;
  std::atomic<bool> entered_{false};
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

TEST_F(Hotplug, VcpusAreAddedWhileOthersRun) {
  const Spinning first(vcpu_with(forever));
  memory_->write(0x3000, hlt.data(), hlt.size());
  for (unsigned id = 1; id <= 4; ++id) {
    const auto added = vm_->create_vcpu();
    EXPECT_EQ(added->id(), id);
    start(added, 0x3000);
    EXPECT_TRUE(std::holds_alternative<Hlt>(run(added)));
  }
}

TEST_F(Hotplug, AParkedVcpuIsHandedOutAgainWhileOthersRun) {
  const Spinning other(vcpu_with(forever));
  memory_->write(0x3000, hlt.data(), hlt.size());
  auto vcpu = vm_->create_vcpu(7);
  start(vcpu, 0x3000);
  EXPECT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
  for (int round = 0; round < 3; ++round) {
    vcpu->park();
    EXPECT_TRUE(vcpu->closed());
    EXPECT_THROW(vcpu->run(), ClosedError);
    vcpu->park();  // of no effect
    EXPECT_EQ(vm_->parked(), std::vector<unsigned>{7});
    EXPECT_EQ(vm_->vcpus().size(), 1U);
    std::thread([&] {  // another thread may have it next
      vcpu = vm_->create_vcpu(7);
      EXPECT_EQ(vcpu->x86()->regs().rip, 0x3001U);  // as it was left
      start(vcpu, 0x3000);
      EXPECT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
    })
        .join();
    EXPECT_TRUE(vm_->parked().empty());
    EXPECT_THROW(vm_->create_vcpu(7), InvalidConfig);
  }
}

TEST_F(Hotplug, ParkingEndsARun) {
  const auto vcpu = vcpu_with(forever);
  Spinning spinning(vcpu);
  vcpu->park();
  EXPECT_TRUE(spinning.join());
  EXPECT_EQ(vm_->parked(), std::vector<unsigned>{0});
  const auto again = vm_->create_vcpu(0);
  EXPECT_TRUE(std::holds_alternative<Timeout>(again->run({std::chrono::milliseconds(5), nullptr})));
}

TEST_F(Hotplug, NoResultOfAnUnansweredExitIsWrittenLater) {
  // in al, 0x11; then the place where the vCPU is put by hand.
  const auto vcpu = vcpu_with({0xE4, 0x11, 0xF4});
  ASSERT_TRUE(std::holds_alternative<IoIn>(run(vcpu)));
  vcpu->park();
  const auto again = vm_->create_vcpu(0);
  memory_->write(0x3000, hlt.data(), hlt.size());
  X86Regs regs;
  regs.rip = 0x3000;
  regs.rax = 0x1234;
  again->x86()->set_regs(regs);
  EXPECT_TRUE(std::holds_alternative<Hlt>(run(again)));
  EXPECT_EQ(again->x86()->regs().rip, 0x3001U);
  EXPECT_EQ(again->x86()->regs().rax, 0x1234U);
}

TEST_F(Hotplug, OnlyAParkedVcpuComesBackAndNoneAfterTheVm) {
  auto vcpu = vm_->create_vcpu(1);
  vcpu->close();
  vcpu->park();  // too late
  EXPECT_THROW(vm_->create_vcpu(1), InvalidConfig);
  auto parked = vm_->create_vcpu(2);
  auto late = vm_->create_vcpu(3);
  parked->park();
  EXPECT_EQ(vm_->create_vcpu()->id(), 0U);  // not the parked one
  vm_->close();
  late->park();
  EXPECT_THROW(vm_->parked(), ClosedError);
  EXPECT_THROW(vm_->create_vcpu(2), ClosedError);
}

TEST_F(Hotplug, ManyThreadsParkAndHandOut) {
  constexpr unsigned threads = 3;
  memory_->write(0x3000, hlt.data(), hlt.size());
  std::vector<std::thread> all;
  for (unsigned id = 0; id < threads; ++id) {
    all.emplace_back([&, id] {
      for (int round = 0; round < 50; ++round) {
        const auto vcpu = vm_->create_vcpu(id);
        start(vcpu, 0x3000);
        EXPECT_TRUE(std::holds_alternative<Hlt>(run(vcpu)));
        vcpu->park();
      }
    });
  }
  for (std::thread& thread : all) thread.join();
  EXPECT_EQ(vm_->parked().size(), threads);
}

}  // namespace
}  // namespace vm::accel
