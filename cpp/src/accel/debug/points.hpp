#pragma once
/// \file
/// The breakpoints and watchpoints of a debugger, and the debug registers that they take.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "vm/accel/debug/debugger.hpp"
#include "vm/accel/hypervisor/guest_debug.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {

/// One thread at a time.
class Points {
 public:
  struct Watched {
    Watchpoint point;
    mem::HostView bytes;               ///< of a stepping watchpoint
    std::array<std::byte, 8> value{};  ///< what they were when they were looked at last
  };

  /// What vCPUs stop for. `except`: no breakpoint on execution there, because it is being stepped over.
  GuestDebugSettings settings(std::optional<std::uint64_t> except = {}) const;
  /// Whether any watchpoint needs every instruction to be a step.
  bool stepping() const noexcept;
  bool empty() const noexcept { return breakpoints_.empty() && watched_.empty(); }
  const std::vector<Breakpoint>& breakpoints() const noexcept { return breakpoints_; }
  const std::vector<Watched>& watched() const noexcept { return watched_; }

  /// Both give it an id. Throws ResourceExhausted when the debug registers do not suffice; then nothing was added.
  const Breakpoint& add(Breakpoint point);
  const Watchpoint& add(Watched point);
  /// The breakpoint `id`, removed; nothing when it was a watchpoint. Throws OutOfRange for an id that is none.
  std::optional<Breakpoint> remove(unsigned id);
  void clear() noexcept;

  /// Who stops here, or nullptr. `paddr`: where `pc` translates to, if it does.
  Breakpoint* at(std::uint64_t pc, std::optional<std::uint64_t> paddr) noexcept;
  /// Who has this debug register of `settings()`: a breakpoint, a watchpoint or neither.
  Breakpoint* breakpoint_of(const HardwareBreakpoint& used) noexcept;
  Watchpoint* watchpoint_of(const HardwareBreakpoint& used) noexcept;
  /// The first stepping watchpoint whose bytes have changed since the last look, or nullptr.
  Watchpoint* changed() noexcept;

 private:
  void check_registers() const;

  std::vector<Breakpoint> breakpoints_;
  std::vector<Watched> watched_;
  unsigned next_id_ = 1;
};

}  // namespace vm::accel
