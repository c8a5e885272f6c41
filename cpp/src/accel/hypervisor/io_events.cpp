#include "vm/accel/hypervisor/io_events.hpp"

#include <string>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

constexpr std::uint64_t ports = 0x1'0000;

void check_range(IoSpace space, std::uint64_t address, std::uint64_t size, const std::string& what) {
  const bool port = space == IoSpace::port;
  const bool inside = port ? address < ports && size <= ports - address : size == 0 || address + (size - 1) >= address;
  if (!inside) throw InvalidConfig(what + " ends outside " + (port ? "the 65536 ports" : "64 bits of address"));
}

}  // namespace

const char* io_space_name(IoSpace space) noexcept { return space == IoSpace::port ? "port" : "memory"; }

std::string io_event_text(const IoEvent& event) {
  std::string text = "a write of ";
  if (event.match) text += hex(*event.match) + " in ";
  text += event.size == 0 ? "any size" : std::to_string(event.size) + (event.size == 1 ? " byte" : " bytes");
  return text + (event.space == IoSpace::port ? " to port " : " to ") + hex(event.address);
}

void check_io_event(const IoEvent& event) {
  const std::string what = io_event_text(event);
  const unsigned widest = event.space == IoSpace::port ? 4 : 8;
  const unsigned size = event.size;
  if (size > widest || (size & (size - 1)) != 0) {
    throw InvalidConfig(what + " does not exist; sizes are 1, 2, 4" + (widest == 8 ? ", 8" : "") + " or 0 for any");
  }
  check_range(event.space, event.address, size, what);
  if (!event.match) return;
  if (size == 0) throw InvalidConfig(what + ": a value can only be compared when the size is said");
  if (size < 8 && *event.match >> (8 * size) != 0) throw InvalidConfig(what + ": the value does not fit the size");
}

void check_zone(const CoalescedZone& zone) {
  const std::string what = "the zone of " + std::to_string(zone.size) + " bytes at " + hex(zone.address);
  if (zone.size == 0) throw InvalidConfig(what + " is empty");
  if (zone.size > INT32_MAX) throw InvalidConfig(what + " is too large; a zone is smaller than 2 GiB");
  check_range(zone.space, zone.address, zone.size, what);
}

}  // namespace vm::accel
