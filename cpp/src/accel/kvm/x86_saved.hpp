#pragma once
/// \file
/// The saved state of x86 vCPUs and VMs: the kernel's own structures, kept as they are and never looked into more than
/// needed.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "abi.hpp"
#include "vm/accel/hypervisor/saved_state.hpp"

namespace vm::accel::kvm {

class SavedX86Vcpu final : public SavedState {
 public:
  SavedX86Vcpu() = default;
  /// Throws InvalidConfig.
  explicit SavedX86Vcpu(const std::vector<std::byte>& bytes);
  std::vector<std::byte> bytes() const override;

  /// Whether the page-directory pointers are a part of the state, not only read from memory at CR3 (SDM vol. 3 §4.4.1).
  bool has_pdptrs() const noexcept {
    return sregs2.has_value() && (sregs2->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) != 0;
  }

  kvm_regs regs{};
  kvm_sregs sregs{};
  std::optional<kvm_sregs2> sregs2;
  kvm_vcpu_events events{};
  kvm_mp_state mp_state{};
  kvm_debugregs debug{};
  kvm_xcrs xcrs{};
  std::vector<std::byte> xsave;  // what KVM_GET_XSAVE2 gives, at least a kvm_xsave
  std::optional<kvm_lapic_state> lapic;
  std::vector<kvm_msr_entry> msrs;
  std::vector<kvm_cpuid_entry2> cpuid;
  std::uint32_t tsc_khz = 0;  // 0: unknown
};

/// Bits of one register of one CPUID leaf that stand for features.
struct FeatureWord {
  std::uint32_t leaf;
  std::uint32_t subleaf;
  std::uint32_t reg;  // 0 eax, 1 ebx, 2 ecx, 3 edx
  std::uint32_t bits;
};

class SavedX86Vm final : public SavedState {
 public:
  SavedX86Vm() = default;
  /// Throws InvalidConfig.
  explicit SavedX86Vm(const std::vector<std::byte>& bytes);
  std::vector<std::byte> bytes() const override;

  std::vector<kvm_irqchip> irqchips;  // both PICs and the IOAPIC, or none
  std::optional<kvm_pit_state2> pit;
  std::optional<kvm_clock_data> clock;
  bool split_irqchip = false;      // local APICs in the kernel, PIC and IOAPIC outside
  std::vector<FeatureWord> needs;  // what the vCPUs were told of and KVM could give them where this was saved
};

}  // namespace vm::accel::kvm
