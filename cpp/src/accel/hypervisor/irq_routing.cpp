#include "vm/accel/hypervisor/irq_routing.hpp"

#include <map>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

const char* name_of(IrqController controller) noexcept {
  switch (controller) {
    case IrqController::pic_master: return "the PIC master";
    case IrqController::pic_slave: return "the PIC slave";
    case IrqController::ioapic: return "the IOAPIC";
  }
  return "no controller";
}

std::string row(const GsiRoute& route) { return "route of GSI " + std::to_string(route.gsi) + ": "; }

void check_pin(const GsiRoute& route, IrqPin pin, IrqchipKind kind) {
  if (kind == IrqchipKind::split) {
    throw InvalidConfig(row(route) + "a split irqchip has no pins, PIC and IOAPIC are yours; route to a message");
  }
  const unsigned pins = pins_of(pin.controller);
  if (pin.pin < pins) return;
  throw InvalidConfig(row(route) + name_of(pin.controller) + " has " + std::to_string(pins) + " pins, got pin " +
                      std::to_string(pin.pin));
}

/// What the rows so far say about one GSI: KVM knows one message, or one pin of each controller.
struct Taken {
  bool message = false;
  unsigned controllers = 0;  // a bit each
};

void take(Taken& taken, const GsiRoute& route) {
  const IrqPin* pin = std::get_if<IrqPin>(&route.target);
  const unsigned bit = pin != nullptr ? 1U << static_cast<unsigned>(pin->controller) : 0;
  const bool first = !taken.message && taken.controllers == 0;
  if (!first && (pin == nullptr || taken.message)) {
    throw InvalidConfig(row(route) + "a GSI that is a message has no second route; take another GSI");
  }
  if ((taken.controllers & bit) != 0) {
    throw InvalidConfig(row(route) + "it has a pin of " + name_of(pin->controller) + " already");
  }
  taken.message = pin == nullptr;
  taken.controllers |= bit;
}

}  // namespace

Msi x86_msi(std::uint8_t destination, std::uint8_t vector, MsiDelivery delivery, bool logical, bool level) noexcept {
  constexpr std::uint64_t window = 0xFEE0'0000;  // SDM vol. 3 §11.11.1; bits 19-12 are the destination, bit 2 its mode
  Msi message;
  message.address = window | std::uint64_t{destination} << 12 | (logical ? 1U << 2 : 0U);
  message.data = vector | static_cast<std::uint32_t>(delivery) << 8;
  if (level) message.data |= 1U << 15 | 1U << 14;  // level-triggered, asserted
  return message;
}

unsigned pins_of(IrqController controller) noexcept { return controller == IrqController::ioapic ? 24 : 8; }

const char* irqchip_name(IrqchipKind kind) noexcept {
  switch (kind) {
    case IrqchipKind::none: return "none";
    case IrqchipKind::kernel: return "kernel";
    case IrqchipKind::split: return "split";
  }
  return "unknown";
}

void check_routes(const std::vector<GsiRoute>& routes, IrqchipKind kind, std::uint32_t most) {
  if (kind == IrqchipKind::none) throw InvalidConfig("routes lead to an irqchip; create one first");
  if (routes.size() > most) {
    throw InvalidConfig("the table of routes can have " + std::to_string(most) + " rows, got " +
                        std::to_string(routes.size()));
  }
  std::map<std::uint32_t, Taken> taken;
  for (const GsiRoute& route : routes) {
    if (route.gsi >= most) throw InvalidConfig(row(route) + "GSIs are numbered below " + std::to_string(most));
    if (const IrqPin* pin = std::get_if<IrqPin>(&route.target)) check_pin(route, *pin, kind);
    take(taken[route.gsi], route);
  }
}

std::vector<GsiRoute> default_x86_routes() {
  std::vector<GsiRoute> routes;
  for (std::uint32_t gsi = 0; gsi < pins_of(IrqController::ioapic); ++gsi) {
    routes.push_back({gsi, IrqPin{IrqController::ioapic, gsi}});
    if (gsi < 8) routes.push_back({gsi, IrqPin{IrqController::pic_master, gsi}});
    if (gsi >= 8 && gsi < 16) routes.push_back({gsi, IrqPin{IrqController::pic_slave, gsi - 8}});
  }
  return routes;
}

}  // namespace vm::accel
