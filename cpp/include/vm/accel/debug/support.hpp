#pragma once
/// \file
/// Which ways of debugging work on this machine, found out by trying them on small guests.
///
/// A kernel accepts KVM_SET_GUEST_DEBUG whether or not it can keep the promise: where guest code runs in KVM's
/// instruction emulator, INT3 and watchpoints may do nothing; where a processor without virtualization hardware runs
/// it, nothing may stop it at all.

#include <array>
#include <cstdint>
#include <string>

#include "vm/accel/hypervisor/vm.hpp"

namespace vm::accel {

/// Where guest code runs.
enum class DebugPlace : std::uint8_t { real, kernel, user };  ///< real mode; long mode at privilege level 0; at 3
inline constexpr std::size_t debug_places = 3;
const char* to_string(DebugPlace place) noexcept;

struct DebugAbilities {
  bool single_step = false;
  bool breakpoint = false;  ///< a debug register stops before an instruction
  bool watchpoint = false;  ///< a debug register stops after a write
  bool int3 = false;        ///< INT3 comes as a Debug exit
  bool int3_fails = false;  ///< INT3 comes as InternalError, the instruction pointer on it
  bool int1_fails = false;  ///< the same of INT1 (0xF1)
};

struct DebugSupport {
  std::array<DebugAbilities, debug_places> at;

  const DebugAbilities& operator[](DebugPlace place) const noexcept { return at[static_cast<std::size_t>(place)]; }
  /// What a software breakpoint is made of: INT3 (0xCC), or INT1 (0xF1) where INT3 gets past the hypervisor in real
  /// mode and INT1 does not.
  std::uint8_t trap_instruction() const noexcept;
  /// Whether code at this place stops at `trap_instruction`.
  bool software_breakpoint(DebugPlace place) const noexcept;
};

/// Tries everything in `scratch`, a VM without memory and vCPUs, which is good for nothing afterwards. Takes some
/// milliseconds. Throws NotSupported when the backend has no GuestDebug or is not x86.
DebugSupport probe_debug(Vm& scratch);

}  // namespace vm::accel
