#include "vm/core/fault.hpp"

#include "vm/core/error.hpp"

namespace vm {

const char* describe(FaultReason reason) noexcept {
  switch (reason) {
    case FaultReason::none: return "no fault";
    case FaultReason::not_present: return "not present";
    case FaultReason::not_canonical: return "not a canonical address";
    case FaultReason::reserved_bit: return "reserved bit set in an entry";
    case FaultReason::misaligned_page: return "misaligned superpage";
    case FaultReason::user_denied: return "user access to a supervisor page";
    case FaultReason::read_denied: return "page is not readable";
    case FaultReason::write_denied: return "page is not writable";
    case FaultReason::execute_denied: return "page is not executable";
    case FaultReason::supervisor_execute: return "supervisor fetch from a user page";
    case FaultReason::supervisor_access: return "supervisor access to a user page";
    case FaultReason::protection_key: return "protection key forbids it";
    case FaultReason::access_flag: return "accessed flag is clear";
    case FaultReason::dirty_flag: return "dirty flag is clear";
    case FaultReason::address_size: return "output address too large";
    case FaultReason::table_unreachable: return "page table outside guest memory";
    case FaultReason::walk_disabled: return "walks are disabled for this half";
  }
  return "unknown reason";
}

std::string FaultInfo::message() const {
  const std::string what = access == Access::none ? "lookup" : to_string(access) + " access";
  return "page fault at " + hex(vaddr) + ": " + describe(reason) + " (" + to_string(privilege) + " " + what +
         ", level " + std::to_string(level) + ", error code " + hex(error_code) + ")";
}

}  // namespace vm
