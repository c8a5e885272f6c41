#pragma once
/// \file
/// Runs vCPUs and lets devices answer their exits.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "vm/accel/devices/bus.hpp"
#include "vm/accel/devices/stop_request.hpp"
#include "vm/accel/hypervisor/vm.hpp"

namespace vm::accel {

struct LoopOptions {
  std::optional<std::chrono::nanoseconds> timeout;  ///< of the whole loop; absent: as long as it takes
  SignalCheck* signals = nullptr;                   ///< asked on the calling thread only
  bool stop_at_unclaimed = false;                   ///< an access that no device answers ends the loop
};

struct LoopResult {
  /// What a device or another thread asked for; absent when an exit ended the loop.
  std::optional<StopReason> stop;
  unsigned vcpu = 0;  ///< the vCPU that ended the loop
  /// Its last exit: Timeout, Hlt, Shutdown, InternalError ... An unclaimed read still waits for its answer.
  Exit exit{Interrupted{}};
  std::uint64_t number = 0;                            ///< Vcpu::exits() when it happened
  std::shared_ptr<const std::vector<std::byte>> data;  ///< what IoOut::data of `exit` points at
};

/// Runs one vCPU on the calling thread, its owner, until `stop` is requested or an exit comes that `bus` does not
/// answer: everything but IoIn, IoOut, MmioRead and MmioWrite. String I/O reaches the device item by item. Throws what
/// Vcpu::run throws, and what a device throws; then the exit that the device saw is still unanswered.
LoopResult run_vcpu(Vcpu& vcpu, const DeviceBus& bus, StopRequest& stop, const LoopOptions& options = {});

/// Runs all vCPUs of `vm` that there are now, the first on the calling thread and each other on a thread of its own,
/// until the first of them ends as in `run_vcpu`; the others are called back then. Afterwards all of them belong to the
/// calling thread. Throws InvalidConfig without a vCPU or with one that is inside a call elsewhere, PlatformError, and
/// what any of the vCPUs threw first.
LoopResult run_vm(Vm& vm, const DeviceBus& bus, StopRequest& stop, const LoopOptions& options = {});

}  // namespace vm::accel
