#pragma once
/// \file
/// Processor states in which a guest begins: real mode, 32-bit protected mode, long mode for the supervisor or the user
/// (Intel SDM vol. 3, chapters 3, 4, 5 and 10.8.5).

#include <cstdint>
#include <memory>
#include <optional>

#include "vm/accel/hypervisor/vcpu.hpp"
#include "vm/accel/hypervisor/x86_registers.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel::boot {

/// The selectors of the table that `write_gdt` makes. Code and data are flat: base 0, all of the address space. The
/// supervisor's are those that Linux wants of its loader (__BOOT_CS, __BOOT_DS).
namespace selector {
inline constexpr std::uint16_t code32 = 0x08;
inline constexpr std::uint16_t code64 = 0x10;
inline constexpr std::uint16_t data = 0x18;
inline constexpr std::uint16_t user_data = 0x20 | 3;
inline constexpr std::uint16_t user_code64 = 0x28 | 3;
inline constexpr std::uint16_t task = 0x30;
}  // namespace selector

inline constexpr std::uint64_t gdt_size = 64;  ///< bytes
inline constexpr std::uint64_t tss_size = 104;
/// With a permission bit for each port and a last byte of ones (SDM vol. 1 §19.5.2).
inline constexpr std::uint64_t tss_with_ports_size = tss_size + 8192 + 1;

/// A descriptor of a segment table as the processor loads it. `limit` in bytes; it is rounded to pages above 1 MiB.
std::uint64_t encode_descriptor(const X86Segment& segment) noexcept;
/// The opposite, for a code or data segment.
X86Segment decode_descriptor(std::uint64_t descriptor, std::uint16_t selector) noexcept;

/// Writes a table with the selectors above at `gdt` and a 64-bit task state at `tss`, whose stack for exceptions from
/// privilege 3 is `stack`. With `ports`, the task state lets every privilege use all ports and is as large as
/// tss_with_ports_size says. Throws OutOfRange.
void write_gdt(mem::GuestMemory& memory, std::uint64_t gdt, std::uint64_t tss, std::uint64_t stack = 0,
               bool ports = false);

/// One gate of a 64-bit interrupt table.
struct Gate {
  std::uint64_t handler = 0;
  std::uint16_t selector = selector::code64;
  std::uint8_t stack = 0;      ///< 1 to 7: a stack of the task state; 0: the current one
  std::uint8_t privilege = 0;  ///< who may raise it with INT
  bool trap = false;           ///< interrupts stay enabled
};
/// Writes the gate of `vector` into the table at `idt`. Throws OutOfRange.
void write_gate(mem::GuestMemory& memory, std::uint64_t idt, std::uint8_t vector, const Gate& gate);

/// Where the tables of a guest that starts in long mode lie, and what they map.
struct LongModeOptions {
  unsigned privilege = 0;                  ///< 0, or 3: user code, which may use ports
  std::uint64_t gdt = 0x500;               ///< see write_gdt
  std::uint64_t tss = 0x580;               ///< see write_gdt; with `ports` at privilege 3
  std::uint64_t tables = 0x9000;           ///< the top table; the others follow it
  std::uint64_t tables_end = 0xF000;       ///< where they must end
  std::uint64_t mapped = 4ULL << 30;       ///< so many bytes from 0 map to themselves, in pages of 2 MiB
  std::uint64_t exception_stack = 0x8000;  ///< for exceptions out of privilege 3
};

/// Changes `sregs` to 16-bit real mode with all segments at 0.
void set_real_mode(X86SpecialRegs& sregs) noexcept;
/// Changes `sregs` to 32-bit protected mode without paging, flat segments from the table at `gdt` (see write_gdt).
void set_protected_mode(X86SpecialRegs& sregs, std::uint64_t gdt) noexcept;
/// Changes `sregs` to 64-bit mode on the tables of `options`, which `write_long_mode_tables` made.
void set_long_mode(X86SpecialRegs& sregs, const LongModeOptions& options);

/// Writes the segment table, the task state and the page tables. Throws InvalidConfig for options that make no sense,
/// ResourceExhausted when the page tables do not fit, OutOfRange.
void write_long_mode_tables(const std::shared_ptr<mem::GuestMemory>& memory, const LongModeOptions& options);

/// All of it for one vCPU: the next run begins at `rip` in 64-bit mode. Called on the vCPU's thread. The other
/// registers are 0 but for the stack pointer, and IOPL is 3 at privilege 3. Throws as the above, and what X86State
/// throws.
void enter_long_mode(const std::shared_ptr<mem::GuestMemory>& memory, Vcpu& vcpu, std::uint64_t rip, std::uint64_t rsp,
                     const LongModeOptions& options = {});

}  // namespace vm::accel::boot
