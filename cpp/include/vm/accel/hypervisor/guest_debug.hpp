#pragma once
/// \file
/// Debugging a guest from outside: what makes a vCPU come back with a Debug exit.
///
/// Not the guest's own use of its debug registers: while hardware breakpoints are set here, those of the guest have no
/// effect (Linux, Documentation/virt/kvm/api.rst §4.87).

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace vm::accel {

/// One debug register in use (Intel SDM vol. 3 §17.2).
struct HardwareBreakpoint {
  enum class Kind : std::uint8_t {
    execute = 0,     ///< before the instruction at `address`
    write = 1,       ///< after a write
    read_write = 3,  ///< after a read or a write; x86 has no kind for reads alone
  };
  std::uint64_t address = 0;  ///< linear; a multiple of `size`
  std::uint8_t size = 1;      ///< bytes: 1, 2, 4 or 8; always 1 to execute
  Kind kind = Kind::execute;
};

bool operator==(const HardwareBreakpoint& a, const HardwareBreakpoint& b) noexcept;

/// What a vCPU stops for. All off: it is not debugged.
struct GuestDebugSettings {
  static constexpr std::size_t registers = 4;  ///< DR0 to DR3

  bool single_step = false;           ///< after each instruction
  bool software_breakpoints = false;  ///< the guest's INT3 becomes a Debug exit instead of #BP
  bool block_interrupts = false;      ///< none is delivered while stepping; KVM_GUESTDBG_BLOCKIRQ
  std::array<std::optional<HardwareBreakpoint>, registers> hardware;

  bool any() const noexcept;
};

bool operator==(const GuestDebugSettings& a, const GuestDebugSettings& b) noexcept;

/// Throws InvalidConfig when a size or an alignment is none that a debug register can hold.
void validate(const GuestDebugSettings& settings);
/// DR7 for these breakpoints: enabled globally, with their kinds and lengths. `settings` is valid.
std::uint64_t dr7_of(const GuestDebugSettings& settings) noexcept;

/// Implemented by backends. Calls come from the vCPU's owner. Throws PlatformError when the hypervisor refuses.
class GuestDebug {
 public:
  virtual ~GuestDebug() = default;

  /// From the next run on. Setting what is set already is not idle: it makes the next instruction a single step again
  /// after registers were written. Throws InvalidConfig, NotSupported (block_interrupts).
  virtual void set(const GuestDebugSettings& settings) = 0;
  virtual const GuestDebugSettings& settings() const noexcept = 0;
  /// Whether `block_interrupts` can be set.
  virtual bool can_block_interrupts() const noexcept = 0;

  /// The guest gets #BP on the next run, as from the INT3 that its instruction pointer points at.
  virtual void inject_breakpoint() = 0;
  /// The guest gets #DB on the next run, with these bits of DR6 set.
  virtual void inject_debug(std::uint64_t dr6) = 0;
};

}  // namespace vm::accel
