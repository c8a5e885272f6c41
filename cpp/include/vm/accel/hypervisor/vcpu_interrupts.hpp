#pragma once
/// \file
/// Interrupts for one vCPU, by hand.

#include <cstdint>

namespace vm::accel {

/// Implemented by backends. Every call throws PlatformError when the hypervisor refuses, NotSupported naming the
/// capability that is missing; then nothing has changed.
class VcpuInterrupts {
 public:
  virtual ~VcpuInterrupts() = default;

  /// The guest takes the interrupt `vector` (0 to 255) as soon as it runs: for a VM whose interrupt controller is the
  /// user's (no irqchip, or a split one). Throws InvalidConfig unless `ready()`, and when the irqchip is the
  /// hypervisor's.
  virtual void interrupt(unsigned vector) = 0;
  /// Whether the guest could take an interrupt when it last came back, and has been given none since. False before the
  /// first run.
  virtual bool ready() const = 0;
  /// The run ends with IrqWindowOpen as soon as the guest can take an interrupt. Once: the exit takes the wish back.
  virtual void request_window() = 0;
  /// The interrupt flag as it was when the guest last came back.
  virtual bool enabled() const = 0;

  /// A non-maskable interrupt.
  virtual void nmi() = 0;
  /// A system-management interrupt. Throws NotSupported where the hypervisor has no system-management mode.
  virtual void smi() = 0;

  /// The task priority (CR8, 0 to 15) that the guest had when it last came back; 0 before the first run.
  virtual std::uint8_t task_priority() const = 0;
  /// The guest has it when it runs next. Throws InvalidConfig for more than 15, and with an irqchip: then the local
  /// APIC has it.
  virtual void set_task_priority(unsigned priority) = 0;
  /// The register IA32_APIC_BASE as it was when the guest last came back; 0 before the first run.
  virtual std::uint64_t apic_base() const = 0;
};

}  // namespace vm::accel
