#pragma once
/// \file
/// What a hypervisor can give to x86 guests.

#include <cstdint>
#include <vector>

#include "vm/accel/hypervisor/x86_cpuid.hpp"
#include "vm/accel/hypervisor/x86_msr.hpp"

namespace vm::accel {

/// Implemented by backends. Any thread.
class X86System {
 public:
  virtual ~X86System() = default;

  /// Everything that the processor has and the hypervisor can give.
  virtual CpuidTable supported_cpuid() = 0;
  /// Features that guests can have without the processor's help, slowly.
  virtual CpuidTable emulated_cpuid() = 0;
  /// The registers that save and restore a vCPU; others may be readable too.
  virtual std::vector<std::uint32_t> msr_indices() = 0;
  /// The registers that describe what the hypervisor can do, with their values.
  virtual std::vector<X86Msr> feature_msrs() = 0;
};

}  // namespace vm::accel
