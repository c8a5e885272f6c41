#pragma once
/// \file
/// What an x86 VM keeps for all its vCPUs.

#include <cstdint>
#include <optional>
#include <vector>

namespace vm::accel {

/// The clock that paravirtual guests read (Linux, Documentation/virt/kvm/api.rst §4.29).
struct VmClock {
  std::uint64_t ns = 0;                      ///< since the VM began
  bool tsc_stable = false;                   ///< the same at one moment on all vCPUs; only read
  std::optional<std::uint64_t> realtime_ns;  ///< the host's CLOCK_REALTIME at that moment, where the kernel can tell
  std::optional<std::uint64_t> host_tsc;     ///< the host's time stamp counter at that moment; only read
};

/// Which performance events the guest may count (api.rst §4.120).
struct PmuEventFilter {
  bool allow = true;  ///< only these events; false: all but these
  /// Event select in bits 0..7 and 32..35, unit mask in bits 8..15.
  std::vector<std::uint64_t> events;
  /// Fixed counters, a bit each, under the same rule.
  std::uint32_t fixed_counters = 0;
};

/// Implemented by backends. Any thread. Errors as in X86State.
class X86VmState {
 public:
  virtual ~X86VmState() = default;

  virtual VmClock clock() = 0;
  /// With `realtime_ns`, the clock also gets what has passed on the host since then.
  virtual void set_clock(const VmClock& clock) = 0;

  /// The frequency that vCPUs begin with, in kHz.
  virtual std::uint32_t tsc_khz() = 0;
  virtual void set_tsc_khz(std::uint32_t khz) = 0;

  /// Throws InvalidConfig for more events than the kernel takes (300). It cannot be read back.
  virtual void set_pmu_event_filter(const PmuEventFilter& filter) = 0;
};

}  // namespace vm::accel
