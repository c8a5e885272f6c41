#pragma once
/// \file
/// Why a debugged guest stands still, as data.

#include <cstdint>
#include <optional>

#include "vm/accel/exits/exit.hpp"

namespace vm::accel {

enum class StopReason : std::uint8_t {
  breakpoint,   ///< `id`; the instruction at `pc` has not been executed
  watchpoint,   ///< `id` and `address`; the access has happened
  step,         ///< one instruction was executed
  exit,         ///< the guest needs something: see `exit`, answer it as after Vcpu::run, and go on
  interrupted,  ///< Debugger::interrupt, or a kick
  timeout,
};

/// "breakpoint", "watchpoint", "step", "exit", "interrupted", "timeout".
const char* to_string(StopReason reason) noexcept;

struct Stop {
  StopReason reason = StopReason::interrupted;
  unsigned vcpu = 0;           ///< which stopped
  std::uint64_t pc = 0;        ///< where it stands, as a linear address
  std::optional<unsigned> id;  ///< of the breakpoint or watchpoint
  std::uint64_t address = 0;   ///< what is watched; 0 otherwise
  Exit exit{Interrupted{}};    ///< what the hypervisor said; its data are valid until the vCPU runs again
};

}  // namespace vm::accel
