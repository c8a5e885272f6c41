#pragma once
/// \file
/// What a vCPU's registers make of an address: segmentation's part and the page tables that are in force.

#include <cstdint>
#include <memory>
#include <optional>

#include "vm/accel/hypervisor/vcpu.hpp"
#include "vm/accel/hypervisor/vm.hpp"
#include "vm/accel/hypervisor/x86_registers.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::accel {

/// How the processor runs code.
enum class CpuMode : std::uint8_t { real, protected16, protected32, long64 };
const char* to_string(CpuMode mode) noexcept;

/// By CR0.PE, EFER.LMA and the bits of CS; virtual-8086 mode counts as real.
CpuMode cpu_mode(const X86SpecialRegs& sregs, std::uint64_t rflags) noexcept;

/// The privilege level: that of SS (Intel SDM vol. 3 §5.5); in real mode 0.
unsigned privilege_level(const X86SpecialRegs& sregs) noexcept;

/// The linear address of the next instruction.
std::uint64_t linear_pc(const X86Regs& regs, const X86SpecialRegs& sregs) noexcept;

/// The paging that the registers select, or nothing while CR0.PG is clear. What only MSRs and CPUID know (protection
/// keys' rights, MAXPHYADDR) keeps its default.
std::optional<mem::paging::X86Config> paging_of(const X86SpecialRegs& sregs, std::uint64_t rflags);

/// The address space of the vCPU now, over the VM's memory now. Throws InvalidConfig while its paging is off.
mem::paging::AddressSpace address_space(const Vm& vm, Vcpu& vcpu);

/// Linear addresses of one vCPU as they are when this object is made; without paging they are physical addresses.
/// One thread at a time.
class VirtualMemory {
 public:
  VirtualMemory(const Vm& vm, Vcpu& vcpu);

  const std::shared_ptr<mem::GuestMemory>& memory() const noexcept { return memory_; }
  /// Without permission checks. Throws PageFault. `user` of the result: whether privilege level 3 may come here.
  struct Place {
    std::uint64_t paddr = 0;
    std::uint64_t page_left = 0;  ///< bytes to the end of the page
    bool user = true;
  };
  Place find(std::uint64_t vaddr) const;
  /// The same, or nothing where the address does not translate.
  std::optional<Place> try_find(std::uint64_t vaddr) const;

 private:
  std::shared_ptr<mem::GuestMemory> memory_;
  std::optional<mem::paging::AddressSpace> space_;
};

}  // namespace vm::accel
