#pragma once
/// \file
/// What KVM can give to x86 guests.

#include "vm/accel/hypervisor/x86_system.hpp"

namespace vm::accel::kvm {

class KvmX86System final : public X86System {
 public:
  /// `fd` is /dev/kvm, opened; it outlives this object.
  explicit KvmX86System(int fd) noexcept : fd_(fd) {}

  CpuidTable supported_cpuid() override;
  CpuidTable emulated_cpuid() override;
  std::vector<std::uint32_t> msr_indices() override;
  std::vector<X86Msr> feature_msrs() override;

 private:
  const int fd_;
};

}  // namespace vm::accel::kvm
