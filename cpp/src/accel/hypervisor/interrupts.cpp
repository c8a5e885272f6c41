#include "vm/accel/hypervisor/interrupts.hpp"

namespace vm::accel {

const char* line_status_name(LineStatus status) noexcept {
  switch (status) {
    case LineStatus::ignored: return "ignored";
    case LineStatus::coalesced: return "coalesced";
    case LineStatus::delivered: return "delivered";
  }
  return "unknown";
}

}  // namespace vm::accel
