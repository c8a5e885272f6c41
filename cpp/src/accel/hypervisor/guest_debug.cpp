#include "vm/accel/hypervisor/guest_debug.hpp"

#include <algorithm>
#include <string>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

constexpr std::uint64_t always_one = 1 << 10;
constexpr std::uint64_t exact = 1 << 9;  // GE, which processors since the 386 advise to set

/// LEN of DR7: 8 bytes are the code that was left over.
std::uint64_t length_code(std::uint8_t size) noexcept { return size == 8 ? 2 : size - 1U; }

bool equal_registers(const GuestDebugSettings& a, const GuestDebugSettings& b) noexcept {
  for (std::size_t i = 0; i < GuestDebugSettings::registers; ++i) {
    if (a.hardware[i].has_value() != b.hardware[i].has_value()) return false;
    if (a.hardware[i] && !(*a.hardware[i] == *b.hardware[i])) return false;
  }
  return true;
}

}  // namespace

bool operator==(const HardwareBreakpoint& a, const HardwareBreakpoint& b) noexcept {
  return a.address == b.address && a.size == b.size && a.kind == b.kind;
}

bool operator==(const GuestDebugSettings& a, const GuestDebugSettings& b) noexcept {
  return a.single_step == b.single_step && a.software_breakpoints == b.software_breakpoints &&
         a.block_interrupts == b.block_interrupts && equal_registers(a, b);
}

bool GuestDebugSettings::any() const noexcept {
  return single_step || software_breakpoints ||
         std::any_of(hardware.begin(), hardware.end(), [](const auto& slot) { return slot.has_value(); });
}

void validate(const GuestDebugSettings& settings) {
  for (const auto& slot : settings.hardware) {
    if (!slot) continue;
    const unsigned size = slot->size;
    if (size != 1 && size != 2 && size != 4 && size != 8)
      throw InvalidConfig("a debug register watches 1, 2, 4 or 8 bytes, not " + std::to_string(size));
    if (slot->kind == HardwareBreakpoint::Kind::execute && size != 1)
      throw InvalidConfig("a breakpoint on execution has size 1, got " + std::to_string(size));
    if (slot->address % size != 0) {
      throw InvalidConfig("a debug register for " + std::to_string(size) +
                          " bytes wants an address that is a multiple "
                          "of that, got " +
                          hex(slot->address));
    }
  }
}

std::uint64_t dr7_of(const GuestDebugSettings& settings) noexcept {
  std::uint64_t dr7 = always_one;
  for (std::size_t i = 0; i < settings.hardware.size(); ++i) {
    const auto& slot = settings.hardware[i];
    if (!slot) continue;
    const std::uint64_t what = static_cast<std::uint64_t>(slot->kind) | length_code(slot->size) << 2;
    dr7 |= exact | std::uint64_t{2} << (2 * i) | what << (16 + 4 * i);
  }
  return dr7;
}

}  // namespace vm::accel
