#include "vm/accel/hypervisor/x86_irqchip.hpp"

namespace vm::accel {

std::uint64_t IoapicRedirection::bits() const noexcept {
  return vector | std::uint64_t{delivery_mode & 7U} << 8 | std::uint64_t{logical} << 11 | std::uint64_t{pending} << 12 |
         std::uint64_t{active_low} << 13 | std::uint64_t{remote_irr} << 14 | std::uint64_t{level} << 15 |
         std::uint64_t{masked} << 16 | std::uint64_t{destination} << 56;
}

IoapicRedirection IoapicRedirection::from_bits(std::uint64_t bits) noexcept {
  const auto set = [bits](unsigned at) { return (bits >> at & 1) != 0; };
  IoapicRedirection row;
  row.vector = static_cast<std::uint8_t>(bits);
  row.delivery_mode = static_cast<std::uint8_t>(bits >> 8 & 7);
  row.logical = set(11);
  row.pending = set(12);
  row.active_low = set(13);
  row.remote_irr = set(14);
  row.level = set(15);
  row.masked = set(16);
  row.destination = static_cast<std::uint8_t>(bits >> 56);
  return row;
}

}  // namespace vm::accel
