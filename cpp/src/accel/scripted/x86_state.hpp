#pragma once
/// \file
/// The registers of a scripted x86 vCPU, kept in memory.

#include "stage.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"

namespace vm::accel::scripted {

class ScriptedX86State final : public X86State {
 public:
  /// After a reset (Intel SDM vol. 3, table 9-1). `stage` lives as long as this object.
  ScriptedX86State(Stage& stage, unsigned vm, unsigned vcpu);

  X86Regs regs() override { return regs_; }
  void set_regs(const X86Regs& regs) override;
  X86SpecialRegs sregs() override { return sregs_; }
  void set_sregs(const X86SpecialRegs& sregs) override;

  /// For the steps of the script, which are the guest.
  X86Regs& guest_regs() noexcept { return regs_; }
  X86SpecialRegs& guest_sregs() noexcept { return sregs_; }

 private:
  Stage& stage_;
  const unsigned vm_, vcpu_;
  X86Regs regs_;
  X86SpecialRegs sregs_;
};

}  // namespace vm::accel::scripted
