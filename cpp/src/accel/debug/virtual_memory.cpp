#include "vm/accel/debug/virtual_memory.hpp"

#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

constexpr std::uint64_t protection_enabled = 1;                   // CR0.PE
constexpr std::uint64_t paging_enabled = std::uint64_t{1} << 31;  // CR0.PG
constexpr std::uint64_t long_mode_active = 1 << 10;               // EFER.LMA
constexpr std::uint64_t virtual_8086 = 1 << 17;                   // EFLAGS.VM
constexpr std::uint64_t alignment_check = 1 << 18;                // EFLAGS.AC
constexpr std::uint64_t low_32 = 0xFFFFFFFF;

bool in_long_mode(const X86SpecialRegs& sregs) noexcept {
  return (sregs.efer & long_mode_active) != 0 && sregs.cs.long_mode;
}

struct Registers {
  X86Regs regs;
  X86SpecialRegs sregs;
};

Registers registers_of(Vcpu& vcpu) {
  auto x86 = vcpu.x86();
  return {x86->regs(), x86->sregs()};
}

}  // namespace

const char* to_string(CpuMode mode) noexcept {
  switch (mode) {
    case CpuMode::real: return "real";
    case CpuMode::protected16: return "protected16";
    case CpuMode::protected32: return "protected32";
    case CpuMode::long64: return "long64";
  }
  return "unknown";
}

CpuMode cpu_mode(const X86SpecialRegs& sregs, std::uint64_t rflags) noexcept {
  if ((sregs.cr0 & protection_enabled) == 0) return CpuMode::real;
  if (in_long_mode(sregs)) return CpuMode::long64;
  if ((rflags & virtual_8086) != 0) return CpuMode::real;
  return sregs.cs.db ? CpuMode::protected32 : CpuMode::protected16;
}

unsigned privilege_level(const X86SpecialRegs& sregs) noexcept {
  return (sregs.cr0 & protection_enabled) == 0 ? 0 : sregs.ss.dpl;
}

std::uint64_t linear_pc(const X86Regs& regs, const X86SpecialRegs& sregs) noexcept {
  return in_long_mode(sregs) ? regs.rip : (sregs.cs.base + regs.rip) & low_32;
}

std::optional<mem::paging::X86Config> paging_of(const X86SpecialRegs& sregs, std::uint64_t rflags) {
  if ((sregs.cr0 & paging_enabled) == 0) return std::nullopt;
  auto config = mem::paging::X86Config::from_registers(sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer);
  config.ac = (rflags & alignment_check) != 0;
  return config;
}

mem::paging::AddressSpace address_space(const Vm& vm, Vcpu& vcpu) {
  const Registers now = registers_of(vcpu);
  const auto config = paging_of(now.sregs, now.regs.rflags);
  if (!config) {
    throw InvalidConfig("paging of vCPU " + std::to_string(vcpu.id()) +
                        " is off (CR0.PG is clear): its linear addresses are physical addresses");
  }
  return {vm.memory(), *config};
}

VirtualMemory::VirtualMemory(const Vm& vm, Vcpu& vcpu) : memory_(vm.memory()) {
  const Registers now = registers_of(vcpu);
  if (const auto config = paging_of(now.sregs, now.regs.rflags)) space_.emplace(memory_, *config);
}

std::optional<VirtualMemory::Place> VirtualMemory::try_find(std::uint64_t vaddr) const {
  if (!space_) {
    const std::uint64_t paddr = vaddr & low_32;
    return Place{paddr, low_32 - paddr + 1, true};
  }
  const auto found = space_->try_translate(GuestVirtual{vaddr}, Access::none);
  if (!found.ok()) return std::nullopt;
  const std::uint64_t page = found.page_size();
  return Place{found.paddr, page - (vaddr & (page - 1)), user_access(found.rights) != Access::none};
}

VirtualMemory::Place VirtualMemory::find(std::uint64_t vaddr) const {
  if (const auto place = try_find(vaddr)) return *place;
  const auto fault = space_->try_translate(GuestVirtual{vaddr}, Access::none);
  throw PageFault(space_->fault_info(fault, Access::none, Privilege::supervisor));
}

}  // namespace vm::accel
