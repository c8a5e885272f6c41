#pragma once
/// \file
/// What can be read and written of an x86 vCPU while it does not run.

#include <cstdint>
#include <optional>
#include <vector>

#include "vm/accel/hypervisor/x86_cpuid.hpp"
#include "vm/accel/hypervisor/x86_events.hpp"
#include "vm/accel/hypervisor/x86_fpu.hpp"
#include "vm/accel/hypervisor/x86_lapic.hpp"
#include "vm/accel/hypervisor/x86_msr.hpp"
#include "vm/accel/hypervisor/x86_registers.hpp"

namespace vm::accel {

/// Implemented by backends. Every call throws PlatformError when the hypervisor refuses, and NotSupported when it has
/// no such thing; then nothing has changed, but for `set_msrs`.
class X86State {
 public:
  virtual ~X86State() = default;

  virtual X86Regs regs() = 0;
  virtual void set_regs(const X86Regs& regs) = 0;
  virtual X86SpecialRegs sregs() = 0;
  /// Interrupts that wait stay as they are. With PAE paging the page-directory pointers are loaded from the guest's
  /// memory, as MOV to CR3 does.
  virtual void set_sregs(const X86SpecialRegs& sregs) = 0;

  /// The pointers in the processor, which guest memory may not show any more; absent unless PAE paging is on.
  virtual std::optional<X86Pdptrs> pdptrs() = 0;
  /// Throws InvalidConfig unless PAE paging is on. Write them after the special registers.
  virtual void set_pdptrs(const X86Pdptrs& pdptrs) = 0;

  virtual X86DebugRegs debug_regs() = 0;
  virtual void set_debug_regs(const X86DebugRegs& regs) = 0;

  virtual X86Fpu fpu() = 0;
  virtual void set_fpu(const X86Fpu& fpu) = 0;
  virtual X86Xsave xsave() = 0;
  /// Throws InvalidConfig unless it has the size of what `xsave` returns.
  virtual void set_xsave(const X86Xsave& xsave) = 0;
  virtual std::vector<X86Xcr> xcrs() = 0;
  virtual void set_xcrs(const std::vector<X86Xcr>& xcrs) = 0;

  /// In the order of `indices`. Throws PlatformError that names the first register that cannot be read.
  virtual std::vector<X86Msr> msrs(const std::vector<std::uint32_t>& indices) = 0;
  /// In this order. Throws PlatformError that names the first register that was refused; those before it are written
  /// by then, since writing a register can have effects that writing it back does not undo.
  virtual void set_msrs(const std::vector<X86Msr>& msrs) = 0;

  virtual CpuidTable cpuid() = 0;
  /// Before the first run; KVM refuses another table afterwards.
  virtual void set_cpuid(const CpuidTable& table) = 0;

  virtual X86Events events() = 0;
  virtual void set_events(const X86Events& events) = 0;

  /// Both throw InvalidConfig when the hypervisor does not keep the local APIC: the VM has no interrupt controller.
  virtual X86Lapic lapic() = 0;
  virtual void set_lapic(const X86Lapic& lapic) = 0;

  /// The frequency of the guest's time stamp counter, in kHz.
  virtual std::uint32_t tsc_khz() = 0;
  virtual void set_tsc_khz(std::uint32_t khz) = 0;
  /// Tells a guest with a kvmclock that it was stopped, so that its watchdogs do not bark. Throws PlatformError when it
  /// has switched none on.
  virtual void kvmclock_ctrl() = 0;

  /// What a guest that is a hypervisor itself has set up; the kernel's own format (api.rst §4.114).
  virtual std::vector<std::uint8_t> nested_state() = 0;
  virtual void set_nested_state(const std::vector<std::uint8_t>& state) = 0;

  /// KVM sets accessed flags in the tables that it reads, and ignores the bits above a canonical address.
  virtual X86Translation translate(std::uint64_t vaddr) = 0;
};

}  // namespace vm::accel
