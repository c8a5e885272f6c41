// The walker of this library and the hypervisor's own, over the same random tables in the same processor mode.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "../../mem/paging/random_tables.hpp"
#include "vm/accel/backends/backends.hpp"
#include "vm/accel/hypervisor/hypervisor.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/accel/hypervisor/x86_system.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::accel {
namespace {

namespace paging = mem::paging;

constexpr std::uint64_t bit(unsigned n) noexcept { return std::uint64_t{1} << n; }
constexpr std::uint64_t cr0_protected = bit(0), cr0_type = bit(4), cr0_write_protect = bit(16), cr0_paging = bit(31);
constexpr std::uint64_t cr4_pse = bit(4), cr4_pae = bit(5), cr4_la57 = bit(12), cr4_smap = bit(21);
constexpr std::uint64_t efer_long = bit(8) | bit(10), efer_nx = bit(11);

struct Mode {
  const char* name;
  const char* tables;  ///< of paging::formats()
  std::uint64_t cr4;
  std::uint64_t efer;
  const char* needs;  ///< a feature of the processor, or empty
};

void PrintTo(const Mode& mode, std::ostream* out) { *out << mode.name; }

constexpr Mode modes[] = {
    {"two_levels", "x86_2", cr4_pse, 0, ""},
    {"two_levels_small_pages", "x86_2", 0, 0, ""},
    {"pae", "x86_pae", cr4_pae, efer_nx, "nx"},
    {"pae_without_nx", "x86_pae", cr4_pae, 0, ""},
    {"four_levels", "x86_4", cr4_pae, efer_long | efer_nx, "nx"},
    {"four_levels_without_nx", "x86_4", cr4_pae, efer_long, ""},
    {"four_levels_smap", "x86_4", cr4_pae | cr4_smap, efer_long | efer_nx, "smap"},
    {"five_levels", "x86_5", cr4_pae | cr4_la57, efer_long | efer_nx, "la57"},
};

paging::Format format_called(const std::string& name) {
  for (const paging::Format& format : paging::formats()) {
    if (format.name == name) return format;
  }
  throw InvalidConfig("no format " + name);
}

class Translate : public testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    try {
      hypervisor_ = create_hypervisor();
    } catch (const NotSupported& error) {
      GTEST_SKIP() << error.what();
    }
    if (hypervisor_->architecture() != Architecture::x86_64) GTEST_SKIP() << "the tables are x86's";
    supported_ = hypervisor_->x86()->supported_cpuid();
    if (*GetParam().needs != '\0' && !supported_.has(GetParam().needs))
      GTEST_SKIP() << "guests get no " << GetParam().needs << " here";
    vm_ = hypervisor_->create_vm();
    vcpu_ = vm_->create_vcpu();
    // The walker follows the SDM. AMD also reserves bit 8 in tables of the top levels (APM vol. 2 §5.3.3), and KVM goes
    // by the vendor that the guest sees.
    CpuidTable table = supported_;
    CpuidEntry* vendor = table.find(0);
    ASSERT_NE(vendor, nullptr);
    vendor->ebx = 0x756E6547;  // "GenuineIntel"
    vendor->edx = 0x49656E69;
    vendor->ecx = 0x6C65746E;
    vcpu_->x86()->set_cpuid(table);
  }

  /// False when the hypervisor does not go into this mode.
  bool enter_mode(std::uint64_t root) {
    X86SpecialRegs sregs = vcpu_->x86()->sregs();
    sregs.cr0 = cr0_protected | cr0_type | cr0_write_protect | cr0_paging;
    sregs.cr3 = root;
    sregs.cr4 = GetParam().cr4;
    sregs.efer = GetParam().efer;
    sregs.cs.long_mode = (GetParam().efer & efer_long) != 0;
    sregs.cs.db = !sregs.cs.long_mode;
    vcpu_->x86()->set_sregs(sregs);
    registers_ = vcpu_->x86()->sregs();
    return registers_.cr0 == sregs.cr0 && registers_.cr4 == sregs.cr4 && registers_.efer == sregs.efer;
  }

  paging::X86Config config() const {
    auto config = paging::X86Config::from_registers(registers_.cr0, registers_.cr3, registers_.cr4, registers_.efer);
    config.physical_bits = static_cast<int>(supported_.physical_bits());
    // The SDM gives large pages of 32-bit tables up to 40 bits, and KVM 36, as the first processors had.
    if (config.levels == 2) config.physical_bits = 36;
    config.gigabyte_pages = supported_.has("gigabyte_pages");
    return config;
  }

  std::shared_ptr<Hypervisor> hypervisor_;
  CpuidTable supported_;
  std::shared_ptr<Vm> vm_;
  std::shared_ptr<Vcpu> vcpu_;
  X86SpecialRegs registers_;
};

/// KVM_TRANSLATE ignores the bits above those that it translates, so only canonical addresses are the same question.
std::uint64_t canonical(std::uint64_t vaddr, unsigned bits) noexcept {
  if (bits == 32) return vaddr & 0xFFFF'FFFF;
  const unsigned above = 64 - bits;
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(vaddr << above) >> above);
}

TEST_P(Translate, TheWalkerAgreesWithTheHypervisor) {
  const paging::Format format = format_called(GetParam().tables);
  const std::shared_ptr<mem::GuestMemory> memory = paging::random_memory(format);
  vm_->map(*memory);
  if (!enter_mode(0)) GTEST_SKIP() << "this hypervisor does not go into this mode";
  const paging::AddressSpace space(memory, config());
  std::size_t mapped = 0;
  std::size_t unmapped = 0;
  std::vector<std::uint64_t> addresses = paging::random_addresses(format, 7, 10'000);
  for (std::uint64_t& vaddr : addresses) vaddr = canonical(vaddr, format.virtual_bits);
  for (const std::uint64_t vaddr : addresses) {
    const paging::Translation ours = space.try_translate(GuestVirtual{vaddr});
    const X86Translation theirs = vcpu_->x86()->translate(vaddr);
    ASSERT_EQ(ours.ok(), theirs.valid) << hex(vaddr) << ": " << describe(ours.reason) << " at level " << int{ours.level}
                                       << ", theirs " << hex(theirs.paddr);
    if (theirs.valid) {
      ASSERT_EQ(ours.paddr, theirs.paddr) << hex(vaddr);
    }
    ++(theirs.valid ? mapped : unmapped);
  }
  // Enough of both that the comparison means something.
  EXPECT_GT(mapped, addresses.size() / 50);
  EXPECT_GT(unmapped, addresses.size() / 50);
}

INSTANTIATE_TEST_SUITE_P(Modes, Translate, testing::ValuesIn(modes),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace vm::accel
