#pragma once
/// \file
/// How interrupts come into a VM: controllers in the hypervisor, lines, messages, routes, and events that raise them.
/// What belongs to one processor (injection, NMI) is in vcpu_interrupts.hpp; PIC, IOAPIC and PIT in x86_irqchip.hpp.

#include <cstdint>
#include <memory>
#include <vector>

#include "vm/accel/hypervisor/event_fd.hpp"
#include "vm/accel/hypervisor/irq_routing.hpp"

namespace vm::accel {

/// What became of a change of a line.
enum class LineStatus : std::uint8_t {
  ignored,    ///< no route, or masked
  coalesced,  ///< the one before has not been taken yet
  delivered,
};

/// "ignored", "coalesced", "delivered".
const char* line_status_name(LineStatus status) noexcept;

/// An event that raises an interrupt.
struct Irqfd {
  std::shared_ptr<EventFd> event;
  std::uint32_t gsi = 0;
  std::shared_ptr<EventFd> resample;  ///< may be null
};

/// Implemented by backends. Any thread may call anything at once. Every call throws PlatformError when the hypervisor
/// refuses, NotSupported naming the capability that is missing; then nothing has changed.
class Interrupts {
 public:
  virtual ~Interrupts() = default;

  virtual IrqchipKind irqchip() const = 0;
  /// Controllers in the hypervisor, before the first vCPU. Throws InvalidConfig when there is one, or a vCPU.
  virtual void create_irqchip() = 0;
  /// Local APICs in the hypervisor only, before the first vCPU. The first `pins` GSIs are those of the user's IOAPIC:
  /// when the guest ends a level-triggered interrupt that one of them routes as a message, the vCPU exits with
  /// IoapicEoi. Throws InvalidConfig when there is an irqchip or a vCPU, or for more pins than routes.
  virtual void create_split_irqchip(unsigned pins) = 0;

  /// Sets the level of a line of the irqchip. Throws InvalidConfig without an irqchip.
  virtual LineStatus set_line(std::uint32_t gsi, bool level) = 0;
  /// Delivers a message; false: the guest blocked it (its local APIC is off, nobody has this address). Throws
  /// InvalidConfig without an irqchip.
  virtual bool signal(const Msi& message) = 0;

  /// The table of routes: as it was set, or the hypervisor's own.
  virtual std::vector<GsiRoute> routes() const = 0;
  /// Replaces the whole table. Throws InvalidConfig as check_routes.
  virtual void set_routes(std::vector<GsiRoute> routes) = 0;

  /// From now on every write to `event` raises `gsi`, without a system call of this process to the hypervisor. An event
  /// raises one GSI only, and lives until it is detached or the VM is gone. Without `resample` it is an edge: up and
  /// down at once. With it, the line stays up until the guest has ended the interrupt; then it goes down and `resample`
  /// counts, so that a device that still wants attention writes `event` again.
  /// Throws InvalidConfig without an irqchip, for a GSI that no table can have, for an event that is attached already
  /// and for `resample` with a split irqchip (there, IoapicEoi says it).
  virtual void attach_irqfd(std::shared_ptr<EventFd> event, std::uint32_t gsi,
                            std::shared_ptr<EventFd> resample = nullptr) = 0;
  /// When it returns, the event raises nothing any more. Throws InvalidConfig when it is not attached.
  virtual void detach_irqfd(const EventFd& event) = 0;
  virtual std::vector<Irqfd> irqfds() const = 0;
};

}  // namespace vm::accel
