#pragma once
/// \file
/// What can be read and written of an x86 vCPU while it does not run.

#include "vm/accel/hypervisor/x86_registers.hpp"

namespace vm::accel {

/// Implemented by backends. Every call throws PlatformError when the hypervisor refuses; then nothing has changed.
class X86State {
 public:
  virtual ~X86State() = default;

  virtual X86Regs regs() = 0;
  virtual void set_regs(const X86Regs& regs) = 0;
  virtual X86SpecialRegs sregs() = 0;
  /// What the hypervisor keeps beside these registers (pending interrupts, PAE entries) stays as it is.
  virtual void set_sregs(const X86SpecialRegs& sregs) = 0;
};

}  // namespace vm::accel
