#pragma once
/// \file
/// Ends runs whose time is over, without a system call in a run that comes back in time.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

namespace vm::accel {

class VcpuBackend;

using Clock = std::chrono::steady_clock;

/// One thread for all vCPUs of a VM, started by the first deadline. It sleeps until the earliest deadline that it knew
/// when it went to sleep; deadlines that have moved later by then cost nothing.
class Watchdog {
 public:
  /// The place of one vCPU. It is removed before the vCPU goes.
  class Entry {
   public:
    explicit Entry(VcpuBackend& vcpu) noexcept : vcpu_(vcpu) {}

   private:
    friend class Watchdog;
    VcpuBackend& vcpu_;
    std::atomic<std::int64_t> deadline_ns_{never};
  };

  Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  /// In a child of fork(2), which the thread is not in, nothing is waited for and a little memory is left.
  ~Watchdog();

  /// Both also while other vCPUs run. `add` throws PlatformError when the thread cannot be started.
  void add(Entry& entry);
  void remove(Entry& entry) noexcept;

  /// From now on the vCPU is nudged at `deadline`, once. The entry was added.
  void arm(Entry& entry, Clock::time_point deadline);
  void disarm(Entry& entry) noexcept { entry.deadline_ns_.store(never, std::memory_order_relaxed); }

 private:
  static constexpr std::int64_t never = INT64_MAX;

  struct State;
  static void watch(State& state);

  std::unique_ptr<State> state_;
};

}  // namespace vm::accel
