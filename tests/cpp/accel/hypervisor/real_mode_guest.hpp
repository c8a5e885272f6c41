#pragma once
// A guest in real mode whose interrupt handlers tell by port what they are, for the tests of interrupts.

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {

using Code = std::vector<std::uint8_t>;

inline Code operator+(Code a, const Code& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// mov al, value; out port, al
inline Code out(std::uint8_t port, std::uint8_t value = 0) { return {0xB0, value, 0xE6, port}; }
/// mov dword [offset], value
inline Code store(std::uint16_t offset, std::uint32_t value) {
  const auto byte = [](std::uint32_t from, unsigned at) { return static_cast<std::uint8_t>(from >> (8 * at)); };
  return {0x66,           0xC7,           0x06,           byte(offset, 0), byte(offset, 1),
          byte(value, 0), byte(value, 1), byte(value, 2), byte(value, 3)};
}

inline const Code cli = {0xFA};
inline const Code sti = {0xFB};
inline const Code hlt = {0xF4};
inline const Code iret = {0xCF};
inline const Code forever = {0xEB, 0xFE};
inline const Code wait_for_ever = {0xF4, 0xEB, 0xFD};  // again: hlt; jmp again
/// Where the tests see a handler: out(handled, vector).
constexpr std::uint8_t handled = 0x11;
constexpr std::uint8_t reached = 0x12;
/// Local APIC (Intel SDM vol. 3 table 11-1): spurious-interrupt vector register with the enable bit, end of interrupt.
inline const Code enable_apic = store(0xF0, 0x1FF);
inline const Code end_apic = store(0xB0, 0);
/// Non-specific end of interrupt to the PIC master (8259A, OCW2).
inline const Code end_pic = out(0x20, 0x20);
constexpr std::uint64_t apic_base = 0xFEE0'0000;

class RealMode : public testing::Test {
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

  /// A vCPU about to execute `code` at 0x1000, its data segment at `ds`, its stack below 0x8000.
  std::shared_ptr<Vcpu> vcpu_with(const Code& code, std::uint64_t ds = 0) {
    memory_->write(0x1000, code.data(), code.size());
    auto vcpu = vm_->create_vcpu();
    X86SpecialRegs sregs = vcpu->x86()->sregs();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    sregs.ds.base = ds;
    vcpu->x86()->set_sregs(sregs);
    X86Regs regs;
    regs.rip = 0x1000;
    regs.rsp = 0x8000;
    vcpu->x86()->set_regs(regs);
    return vcpu;
  }

  /// The handler of `vector`: tells that it runs, then `end`, then returns. At most 32 bytes.
  void handle(std::uint8_t vector, const Code& end = {}) {
    const Code code = out(handled, vector) + end + iret;
    const auto at = static_cast<std::uint16_t>(0x2000 + 32 * vector);
    memory_->write(at, code.data(), code.size());
    const std::array<std::uint16_t, 2> entry = {at, 0};  // offset, segment
    memory_->write(std::uint64_t{4} * vector, entry.data(), sizeof entry);
  }

  static Exit run(const std::shared_ptr<Vcpu>& vcpu) { return vcpu->run({std::chrono::seconds(10), nullptr}); }

  /// Runs until the guest writes to `port`, which has to be next; the byte, or -1 with a failure.
  static int next_out(const std::shared_ptr<Vcpu>& vcpu, std::uint8_t port) {
    const Exit exit = run(vcpu);
    const auto* found = std::get_if<IoOut>(&exit);
    if (found == nullptr || found->port != port) {
      ADD_FAILURE() << "instead of a write to port " << int{port} << ": " << exit_name(exit);
      return -1;
    }
    return static_cast<int>(*found->data);
  }

  std::shared_ptr<Hypervisor> hypervisor_;
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<mem::GuestMemory> memory_;
};

}  // namespace vm::accel
