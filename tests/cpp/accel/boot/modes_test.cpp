// Processor states, as values and on every backend that works here.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "vm/accel/backends/backends.hpp"
#include "vm/accel/boot/loader.hpp"
#include "vm/accel/boot/x86_modes.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::boot {
namespace {

using namespace std::chrono_literals;

std::uint64_t word(const mem::GuestMemory& memory, std::uint64_t paddr) {
  std::uint64_t value = 0;
  memory.read(paddr, &value, sizeof value);
  return value;
}

TEST(Descriptors, AreThoseOfTheManual) {
  const auto memory = mem::GuestMemory::anonymous(1 << 16);
  write_gdt(*memory, 0x500, 0x580, 0x8000);
  EXPECT_EQ(word(*memory, 0x500 + selector::code32), 0x00CF9B000000FFFFU);
  EXPECT_EQ(word(*memory, 0x500 + selector::code64), 0x00AF9B000000FFFFU);
  EXPECT_EQ(word(*memory, 0x500 + selector::data), 0x00CF93000000FFFFU);
  EXPECT_EQ(word(*memory, 0x500 + (selector::user_data & ~3)), 0x00CFF3000000FFFFU);
  EXPECT_EQ(word(*memory, 0x500 + (selector::user_code64 & ~3)), 0x00AFFB000000FFFFU);
  EXPECT_EQ(word(*memory, 0x500 + selector::task), 0x00008B0005800067U);
  EXPECT_EQ(word(*memory, 0x584), 0x8000U);
  const X86Segment code = decode_descriptor(0x00AF9B000000FFFF, selector::code64);
  EXPECT_TRUE(code.long_mode && code.present && code.code_or_data && !code.db);
  EXPECT_EQ(code.limit, 0xFFFFFFFFU);
  EXPECT_EQ(encode_descriptor(code), 0x00AF9B000000FFFFU);
  EXPECT_EQ(encode_descriptor(decode_descriptor(0x1240FA34567800FF, 0x08)), 0x1240FA34567800FFU);
}

TEST(Gates, AreThoseOfTheManual) {
  const auto memory = mem::GuestMemory::anonymous(1 << 16);
  write_gate(*memory, 0x1000, 3, {0x1122334455667788, selector::code64, 2, 3, true});
  EXPECT_EQ(word(*memory, 0x1030), 0x5566EF0200107788U);
  EXPECT_EQ(word(*memory, 0x1038), 0x11223344U);
  EXPECT_THROW(write_gate(*memory, 0xFFF0, 3, {}), OutOfRange);
}

TEST(LongMode, OptionsAreChecked) {
  const auto memory = mem::GuestMemory::anonymous(1 << 16);
  X86SpecialRegs sregs;
  LongModeOptions options;
  options.privilege = 1;
  EXPECT_THROW(set_long_mode(sregs, options), InvalidConfig);
  options = {};
  options.tables = 0x9001;
  EXPECT_THROW(write_long_mode_tables(memory, options), InvalidConfig);
  options = {};
  options.mapped = 4096;
  EXPECT_THROW(write_long_mode_tables(memory, options), InvalidConfig);
  options = {};
  options.tables_end = 0xB000;
  EXPECT_THROW(write_long_mode_tables(memory, options), ResourceExhausted);
  options = {};
  options.tables = 0x20000;
  options.tables_end = 0x30000;
  EXPECT_THROW(write_long_mode_tables(memory, options), OutOfRange);
}

class Modes : public testing::Test {
 protected:
  void SetUp() override {
    try {
      hypervisor_ = create_hypervisor();
    } catch (const NotSupported& error) {
      GTEST_SKIP() << error.what();
    }
    if (hypervisor_->architecture() != Architecture::x86_64) GTEST_SKIP() << "the guest code is x86";
    vm_ = hypervisor_->create_vm();
    vm_->map(*memory_);
    vcpu_ = vm_->create_vcpu();
  }
  void write(std::uint64_t paddr, const std::vector<std::uint8_t>& code) {
    memory_->write(paddr, code.data(), code.size());
  }
  Exit run() { return vcpu_->run({10s, nullptr}); }

  std::shared_ptr<mem::GuestMemory> memory_ = mem::GuestMemory::anonymous(2 << 20);
  std::shared_ptr<Hypervisor> hypervisor_;
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<Vcpu> vcpu_;
};

TEST_F(Modes, TheSupervisorRunsIn64Bits) {
  write(0x10000,
        {0x48, 0xC7, 0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0x48, 0xC1, 0xE8, 0x04, 0xF4});  // mov rax,-1; shr rax,4; hlt
  enter_long_mode(memory_, *vcpu_, 0x10000, 0x20000);
  const Exit exit = run();
  ASSERT_TRUE(std::holds_alternative<Hlt>(exit)) << exit_name(exit);
  EXPECT_EQ(vcpu_->x86()->regs().rax, ~std::uint64_t{0} >> 4);
}

TEST_F(Modes, TheUserCountsAndUsesPorts) {
  // mov ecx, 100000000; dec ecx; jnz; mov al, 7; out 0x80, al
  write(0x10000, {0xB9, 0x00, 0xE1, 0xF5, 0x05, 0xFF, 0xC9, 0x75, 0xFC, 0xB0, 0x07, 0xE6, 0x80});
  LongModeOptions options;
  options.privilege = 3;
  enter_long_mode(memory_, *vcpu_, 0x10000, 0x20000, options);
  const Exit exit = run();
  ASSERT_TRUE(std::holds_alternative<IoOut>(exit)) << exit_name(exit);
  EXPECT_EQ(std::to_integer<int>(*std::get<IoOut>(exit).data), 7);
  EXPECT_EQ(vcpu_->x86()->regs().rcx, 0U);
}

TEST_F(Modes, AnExceptionOfTheUserReachesItsGate) {
  write(0x10000, {0xF4});  // hlt is not for users: #GP
  write(0x11000, {0xF4});
  LongModeOptions options;
  options.privilege = 3;
  enter_long_mode(memory_, *vcpu_, 0x10000, 0x20000, options);
  write_gate(*memory_, 0x12000, 13, {0x11000});
  X86SpecialRegs sregs = vcpu_->x86()->sregs();
  sregs.idt = {0x12000, 0xFFF};
  vcpu_->x86()->set_sregs(sregs);
  const Exit exit = run();
  ASSERT_TRUE(std::holds_alternative<Hlt>(exit)) << exit_name(exit);
  EXPECT_EQ(vcpu_->x86()->regs().rip, 0x11001U);
  EXPECT_EQ(word(*memory_, vcpu_->x86()->regs().rsp + 8), 0x10000U);  // where it happened
}

TEST_F(Modes, ProtectedModeIsFlat) {
  write(0x10000, {0xC7, 0x05, 0x00, 0x00, 0x01, 0x00, 0x78, 0x56, 0x34, 0x12, 0xF4});  // mov [0x10000], imm32; hlt
  LoadedImage loaded;
  loaded.mode = EntryMode::protected32;
  loaded.regs.rip = 0x10000;
  enter(memory_, *vcpu_, loaded);
  const Exit exit = run();
  ASSERT_TRUE(std::holds_alternative<Hlt>(exit)) << exit_name(exit);
  EXPECT_EQ(word(*memory_, 0x10000) & 0xFFFFFFFF, 0x12345678U);
}

TEST_F(Modes, RealModeBeginsAtItsAddress) {
  write(0x7C00, {0x8C, 0xC8, 0xF4});  // mov ax, cs; hlt
  LoadedImage loaded;
  loaded.regs.rip = 0x7C00;
  loaded.regs.rax = 0xFFFF;
  enter(memory_, *vcpu_, loaded);
  const Exit exit = run();
  ASSERT_TRUE(std::holds_alternative<Hlt>(exit)) << exit_name(exit);
  EXPECT_EQ(vcpu_->x86()->regs().rax, 0U);
}

}  // namespace
}  // namespace vm::accel::boot
