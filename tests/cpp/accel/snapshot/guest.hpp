#pragma once
/// \file
/// A guest whose writes and exits are known in advance.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {

inline constexpr std::uint64_t page = 4096;
inline constexpr std::uint64_t code_at = 0x1000;

/// Real mode with flat data: counts in eax, stores the count at the start of a page, tells it, goes on to the next
/// page: inc eax; mov [edi], eax; add edi, 4096; out dx, al; jmp to the start.
inline const std::vector<std::uint8_t> write_pages = {0x66, 0x40, 0x67, 0x66, 0x89, 0x07, 0x66, 0x81,
                                                      0xC7, 0x00, 0x10, 0x00, 0x00, 0xEE, 0xEB, 0xF0};

class GuestTest : public testing::Test {
 protected:
  static constexpr std::uint64_t size = 1 << 20;

  void SetUp() override {
    try {
      hypervisor_ = create_hypervisor("kvm");
    } catch (const NotSupported& error) {
      GTEST_SKIP() << error.what();
    }
    if (hypervisor_->architecture() != Architecture::x86_64) GTEST_SKIP() << "the guest code is x86";
    vm_ = hypervisor_->create_vm();
    memory_ = mem::GuestMemory::anonymous(size);
  }

  /// A vCPU about to execute `code`, which writes pages from `first_page` on.
  std::shared_ptr<Vcpu> vcpu_with(const std::vector<std::uint8_t>& code, std::uint64_t first_page = 16) {
    memory_->write(code_at, code.data(), code.size());
    auto vcpu = vm_->create_vcpu();
    X86SpecialRegs sregs = vcpu->x86()->sregs();
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    sregs.ds.limit = 0xFFFF'FFFF;
    sregs.ds.granularity = true;
    vcpu->x86()->set_sregs(sregs);
    X86Regs regs;
    regs.rip = code_at;
    regs.rdx = 0x3F8;
    regs.rdi = first_page * page;
    vcpu->x86()->set_regs(regs);
    return vcpu;
  }

  /// Goes on for `count` exits and returns what the guest told.
  static std::vector<int> run(Vcpu& vcpu, int count) {
    std::vector<int> told;
    for (int i = 0; i < count; ++i) {
      const Exit& exit = vcpu.run();
      if (!std::holds_alternative<IoOut>(exit)) {
        ADD_FAILURE() << exit_name(exit);
        break;
      }
      told.push_back(std::to_integer<int>(*std::get<IoOut>(exit).data));
    }
    return told;
  }

  static std::vector<std::uint8_t> bytes_of(const Vm& vm) {
    std::vector<std::uint8_t> bytes(size);
    vm.memory()->read(0, bytes.data(), size);
    return bytes;
  }

  std::shared_ptr<Hypervisor> hypervisor_;
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<mem::GuestMemory> memory_;
};

}  // namespace vm::accel
