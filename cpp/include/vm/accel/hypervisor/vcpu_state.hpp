#pragma once
/// \file
/// What can be read and written of a vCPU of any architecture while it does not run.

#include <cstdint>
#include <vector>

#include "vm/accel/hypervisor/device_attributes.hpp"

namespace vm::accel {

/// What a vCPU does when it runs (Linux, Documentation/virt/kvm/api.rst §4.38; the numbers are the kernel's).
enum class MpState : std::uint8_t {
  runnable = 0,
  uninitialized = 1,  ///< x86: has not got an INIT
  init_received = 2,  ///< x86: waits for a start-up message
  halted = 3,
  sipi_received = 4,
  stopped = 5,
  check_stop = 6,
  operating = 7,
  load = 8,
  ap_reset_hold = 9,
  suspended = 10,
};

/// "runnable"; "unknown" for a number without a name.
const char* mp_state_name(MpState state) noexcept;

/// Implemented by backends. Errors as in X86State.
class VcpuState {
 public:
  virtual ~VcpuState() = default;

  virtual MpState mp_state() = 0;
  virtual void set_mp_state(MpState state) = 0;

  /// Registers by the kernel's 64-bit numbers (api.rst §4.68), which also say how many bytes each has: the way to all
  /// state of AArch64 and RISC-V. Throws NotSupported where KVM_CAP_ONE_REG is missing.
  virtual std::vector<std::uint64_t> register_ids() = 0;
  virtual std::vector<std::uint8_t> register_value(std::uint64_t id) = 0;
  /// Throws InvalidConfig unless there are as many bytes as `id` says.
  virtual void set_register_value(std::uint64_t id, const std::vector<std::uint8_t>& value) = 0;

  virtual DeviceAttributes& attributes() noexcept = 0;
};

}  // namespace vm::accel
