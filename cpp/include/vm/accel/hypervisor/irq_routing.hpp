#pragma once
/// \file
/// Where an interrupt goes: messages, pins of controllers, and the table that global system interrupts (GSIs) are
/// looked up in. Linux, Documentation/virt/kvm/api.rst §4.52; the numbers of PIC and IOAPIC pins are the PC's.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace vm::accel {

/// A message-signalled interrupt: a write of `data` to `address` (PCI Local Bus 3.0 §6.8).
struct Msi {
  std::uint64_t address = 0;
  std::uint32_t data = 0;
};

inline bool operator==(const Msi& a, const Msi& b) noexcept { return a.address == b.address && a.data == b.data; }

/// What the local APIC does with a message (Intel SDM vol. 3 §11.11.2, table 11-20). The values are the hardware's.
enum class MsiDelivery : std::uint8_t { fixed = 0, lowest_priority = 1, smi = 2, nmi = 4, init = 5, external = 7 };

/// The message that reaches local APICs (Intel SDM vol. 3 §11.11). `destination`: an APIC ID, or a set of them when
/// `logical`. `level`: the message asserts a level-triggered interrupt.
Msi x86_msi(std::uint8_t destination, std::uint8_t vector, MsiDelivery delivery = MsiDelivery::fixed,
            bool logical = false, bool level = false) noexcept;

/// The controllers that have pins. The values are KVM's.
enum class IrqController : std::uint8_t { pic_master = 0, pic_slave = 1, ioapic = 2 };

/// How many pins a controller has: 8, or 24.
unsigned pins_of(IrqController controller) noexcept;

struct IrqPin {
  IrqController controller = IrqController::ioapic;
  std::uint32_t pin = 0;
};

inline bool operator==(IrqPin a, IrqPin b) noexcept { return a.controller == b.controller && a.pin == b.pin; }

/// One row of the table. A GSI may have a pin of every controller, or one message.
struct GsiRoute {
  std::uint32_t gsi = 0;
  std::variant<IrqPin, Msi> target;
};

inline bool operator==(const GsiRoute& a, const GsiRoute& b) noexcept { return a.gsi == b.gsi && a.target == b.target; }

/// Which interrupt controllers the hypervisor itself plays.
enum class IrqchipKind : std::uint8_t {
  none,    ///< none: interrupts are injected by hand
  kernel,  ///< all: local APICs, and on x86 the PICs and the IOAPIC
  split,   ///< the local APICs only; PIC and IOAPIC are the user's
};

/// "none", "kernel", "split".
const char* irqchip_name(IrqchipKind kind) noexcept;

/// Throws InvalidConfig when a table of `routes` makes no sense for that irqchip, or has more rows than `most`, or a
/// GSI of `most` or more; the message names the row.
void check_routes(const std::vector<GsiRoute>& routes, IrqchipKind kind, std::uint32_t most);

/// What KVM routes by itself after an irqchip was created: on a PC, GSI 0-15 to PIC and IOAPIC, 16-23 to the IOAPIC.
std::vector<GsiRoute> default_x86_routes();

}  // namespace vm::accel
