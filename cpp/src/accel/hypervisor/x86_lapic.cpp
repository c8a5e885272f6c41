#include "vm/accel/hypervisor/x86_lapic.hpp"

#include <cstring>
#include <string>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

constexpr std::uint32_t spacing = 16;  // one 32-bit register every 16 bytes
constexpr std::uint32_t words = 8;     // in a set of 256 vectors

void check(std::uint32_t offset) {
  if (offset < X86Lapic::size && offset % spacing == 0) return;
  throw OutOfRange("a local APIC has no register at " + hex(offset) + "; its offsets are multiples of 16 below 1024",
                   offset, sizeof(std::uint32_t));
}

}  // namespace

const std::vector<LapicRegister>& lapic_registers() {
  static const std::vector<LapicRegister> registers = {
      {"id", 0x20},
      {"version", 0x30},
      {"tpr", 0x80},
      {"apr", 0x90},
      {"ppr", 0xA0},
      {"rrd", 0xC0},
      {"ldr", 0xD0},
      {"dfr", 0xE0},
      {"svr", 0xF0},
      {"esr", 0x280},
      {"lvt_cmci", 0x2F0},
      {"icr_low", 0x300},
      {"icr_high", 0x310},
      {"lvt_timer", 0x320},
      {"lvt_thermal", 0x330},
      {"lvt_pmc", 0x340},
      {"lvt_lint0", 0x350},
      {"lvt_lint1", 0x360},
      {"lvt_error", 0x370},
      {"timer_initial", 0x380},
      {"timer_current", 0x390},
      {"timer_divide", 0x3E0},
  };
  return registers;
}

std::uint32_t X86Lapic::read(std::uint32_t offset) const {
  check(offset);
  std::uint32_t value = 0;
  std::memcpy(&value, page.data() + offset, sizeof value);
  return value;
}

void X86Lapic::write(std::uint32_t offset, std::uint32_t value) {
  check(offset);
  std::memcpy(page.data() + offset, &value, sizeof value);
}

std::vector<std::uint8_t> X86Lapic::vectors(std::uint32_t set) const {
  std::vector<std::uint8_t> result;
  for (std::uint32_t word = 0; word < words; ++word) {
    const std::uint32_t bits = read(set + word * spacing);
    for (std::uint32_t bit = 0; bit < 32; ++bit) {
      if ((bits >> bit & 1) != 0) result.push_back(static_cast<std::uint8_t>(word * 32 + bit));
    }
  }
  return result;
}

}  // namespace vm::accel
