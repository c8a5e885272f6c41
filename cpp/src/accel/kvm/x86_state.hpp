#pragma once
/// \file
/// The state of an x86 vCPU through KVM's requests.

#include "vm/accel/hypervisor/x86_state.hpp"

namespace vm::accel::kvm {

class KvmX86State final : public X86State {
 public:
  /// `vcpu` is the vCPU's descriptor; it outlives this object.
  explicit KvmX86State(int vcpu) noexcept : fd_(vcpu) {}

  X86Regs regs() override;
  void set_regs(const X86Regs& regs) override;
  X86SpecialRegs sregs() override;
  void set_sregs(const X86SpecialRegs& sregs) override;

 private:
  const int fd_;
};

}  // namespace vm::accel::kvm
