#include "vm/accel/debug/stop.hpp"

namespace vm::accel {

const char* to_string(StopReason reason) noexcept {
  switch (reason) {
    case StopReason::breakpoint: return "breakpoint";
    case StopReason::watchpoint: return "watchpoint";
    case StopReason::step: return "step";
    case StopReason::exit: return "exit";
    case StopReason::interrupted: return "interrupted";
    case StopReason::timeout: return "timeout";
  }
  return "unknown";
}

}  // namespace vm::accel
