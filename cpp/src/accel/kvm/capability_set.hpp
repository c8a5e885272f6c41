#pragma once
/// \file
/// Capabilities through a descriptor of KVM's.

#include "vm/accel/hypervisor/capabilities.hpp"

namespace vm::accel::kvm {

class CapabilitySet final : public Capabilities {
 public:
  /// `asked` answers KVM_CHECK_EXTENSION: the descriptor of the system or of a VM. `enabled` takes KVM_ENABLE_CAP: that
  /// of a VM or a vCPU, or -1 for neither. Both outlive this object.
  CapabilitySet(int asked, int enabled) noexcept : asked_(asked), enabled_(enabled) {}

  std::vector<CapabilityAnswer> all() override;
  int check(std::string_view name) override;
  void enable(std::string_view name, const std::array<std::uint64_t, 4>& arguments, std::uint32_t flags) override;

 private:
  const int asked_;
  const int enabled_;
};

/// "this kernel's KVM cannot do this (KVM_CAP_NESTED_STATE)": throws NotSupported.
[[noreturn]] void throw_missing(const std::string& what, const char* capability);

}  // namespace vm::accel::kvm
