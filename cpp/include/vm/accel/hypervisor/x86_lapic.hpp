#pragma once
/// \file
/// The registers of a local APIC as one page (SDM vol. 3 §11.4.1, table 11-1).

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace vm::accel {

struct LapicRegister {
  const char* name;
  std::uint32_t offset;
};

/// The 32-bit registers that have one address each, by offset: "id", "version", "tpr", ... "timer_divide".
const std::vector<LapicRegister>& lapic_registers();

struct X86Lapic {
  static constexpr std::size_t size = 1024;
  static constexpr std::uint32_t isr = 0x100;  ///< vectors in service
  static constexpr std::uint32_t tmr = 0x180;  ///< vectors that are level-triggered
  static constexpr std::uint32_t irr = 0x200;  ///< vectors requested

  std::array<std::uint8_t, size> page{};

  /// Throws OutOfRange unless `offset` is a multiple of 16 inside the page.
  std::uint32_t read(std::uint32_t offset) const;
  void write(std::uint32_t offset, std::uint32_t value);
  /// The set bits of the 256 that begin at `isr`, `tmr` or `irr`.
  std::vector<std::uint8_t> vectors(std::uint32_t set) const;
};

}  // namespace vm::accel
