#pragma once
/// \file
/// Why a page-table walk refused a translation. One vocabulary for all architectures; the architecture's own error code
/// travels beside it in `FaultInfo::error_code`.

#include <cstdint>
#include <string>

#include "vm/core/access.hpp"

namespace vm {

/// Values are stable: they appear in NumPy result arrays and files.
enum class FaultReason : std::uint8_t {
  none = 0,
  not_present = 1,         ///< an entry of the walk is not valid
  not_canonical = 2,       ///< the address is outside the virtual range; x86 raises #GP, the others a translation fault
  reserved_bit = 3,        ///< an entry sets a bit that must be zero, or uses a reserved encoding
  misaligned_page = 4,     ///< RISC-V: a superpage whose physical address is not a multiple of its size
  user_denied = 5,         ///< a user access to a supervisor page
  read_denied = 6,         ///< a read of a page without read permission
  write_denied = 7,        ///< a write to a page without write permission
  execute_denied = 8,      ///< a fetch from a page without execute permission (NX, UXN, PXN, X=0)
  supervisor_execute = 9,  ///< a supervisor fetch from a user page: x86 SMEP; RISC-V always
  supervisor_access = 10,  ///< a supervisor read or write of a user page: x86 SMAP, RISC-V SUM=0, AArch64 PAN
  protection_key = 11,     ///< x86 PKRU or PKRS forbids it
  access_flag = 12,        ///< the accessed flag is clear and hardware does not set it (RISC-V A, AArch64 AF)
  dirty_flag = 13,         ///< a write with the dirty flag clear and no hardware update (RISC-V D)
  address_size = 14,       ///< AArch64: an output address beyond the configured physical size
  table_unreachable = 15,  ///< a table lies outside guest memory; nothing was read
  walk_disabled = 16,      ///< AArch64: TCR_EL1.EPD0/EPD1 forbids walks for this half
};
inline constexpr int fault_reason_count = 17;

/// One line in plain words, without the address: "not present".
const char* describe(FaultReason reason) noexcept;

/// All that is known about one fault.
struct FaultInfo {
  std::uint64_t vaddr = 0;
  Access access = Access::none;                 ///< what was asked for
  Privilege privilege = Privilege::supervisor;  ///< who asked
  int level = 0;  ///< entries still to go when the walk stopped: 0 is the last-level table (x86 PT)
  FaultReason reason = FaultReason::none;
  /// x86: the #PF error code (SDM vol. 3 §4.7; 0 for not_canonical, which is #GP(0)).
  /// RISC-V: the exception cause (Privileged §3.1.15: 12/13/15 page fault, 1/5/7 access fault).
  /// AArch64: the 6-bit fault status code of ESR_ELx.ISS (Arm ARM D17.2.37, DFSC/IFSC).
  std::uint32_t error_code = 0;

  std::string message() const;
};

}  // namespace vm
