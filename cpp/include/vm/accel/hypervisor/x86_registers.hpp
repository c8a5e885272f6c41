#pragma once
/// \file
/// The registers of an x86 vCPU as plain values, in the words of the Intel SDM (vol. 3, chapters 2, 3 and 17). Not the
/// layout of any hypervisor's interface.

#include <array>
#include <cstdint>
#include <vector>

namespace vm::accel {

struct X86Regs {
  std::uint64_t rax = 0, rbx = 0, rcx = 0, rdx = 0;
  std::uint64_t rsi = 0, rdi = 0, rsp = 0, rbp = 0;
  std::uint64_t r8 = 0, r9 = 0, r10 = 0, r11 = 0;
  std::uint64_t r12 = 0, r13 = 0, r14 = 0, r15 = 0;
  std::uint64_t rip = 0;
  std::uint64_t rflags = 2;  ///< bit 1 is always set
};

/// A segment register with its hidden part (SDM vol. 3 §3.4.3, §3.4.5).
struct X86Segment {
  std::uint64_t base = 0;
  std::uint32_t limit = 0;  ///< last offset, in bytes whatever `granularity` says
  std::uint16_t selector = 0;
  std::uint8_t type = 0;  ///< 4 bits
  std::uint8_t dpl = 0;   ///< descriptor privilege level
  bool present = false;
  bool code_or_data = false;  ///< the S bit: clear for a system segment
  bool long_mode = false;     ///< L
  bool db = false;            ///< D/B: 32-bit operands
  bool granularity = false;   ///< G
  bool available = false;     ///< AVL
  bool unusable = false;
};

struct X86DescriptorTable {
  std::uint64_t base = 0;
  std::uint16_t limit = 0;
};

struct X86SpecialRegs {
  X86Segment cs, ds, es, fs, gs, ss, tr, ldt;
  X86DescriptorTable gdt, idt;
  std::uint64_t cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0;
  std::uint64_t efer = 0;
  std::uint64_t apic_base = 0;
};

/// The page-directory-pointer entries that PAE paging holds in the processor (SDM vol. 3 §4.4.1).
using X86Pdptrs = std::array<std::uint64_t, 4>;

/// The debug registers of the guest (SDM vol. 3 §18.2).
struct X86DebugRegs {
  std::array<std::uint64_t, 4> dr{};  ///< DR0 to DR3: linear addresses
  std::uint64_t dr6 = 0xFFFF0FF0;
  std::uint64_t dr7 = 0x400;
};

/// An extended control register (SDM vol. 3 §2.6); 0 is XCR0, the state components that XSAVE manages.
struct X86Xcr {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
};

/// What a linear address means to the guest's page tables, for a read at privilege 0.
struct X86Translation {
  bool valid = false;
  std::uint64_t paddr = 0;  ///< meaningless unless valid
  bool writable = false;    ///< as the hypervisor says; KVM always says true
  bool user = false;        ///< as the hypervisor says; KVM always says false
};

}  // namespace vm::accel
