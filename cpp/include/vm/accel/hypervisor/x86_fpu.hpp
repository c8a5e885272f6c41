#pragma once
/// \file
/// The floating-point and vector state of an x86 vCPU, as plain values.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace vm::accel {

/// What FXSAVE stores (SDM vol. 1 §10.5.1). Numbers are little-endian, as in memory.
struct X86Fpu {
  std::array<std::array<std::uint8_t, 16>, 8> fpr{};   ///< ST0 to ST7, 80 bits each, the rest zero
  std::array<std::array<std::uint8_t, 16>, 16> xmm{};  ///< XMM0 to XMM15
  std::uint16_t fcw = 0x37F;
  std::uint16_t fsw = 0;
  std::uint8_t ftw = 0;  ///< abridged: a set bit says that the register is in use
  std::uint16_t last_opcode = 0;
  std::uint64_t last_ip = 0;
  std::uint64_t last_dp = 0;
  std::uint32_t mxcsr = 0x1F80;
};

/// An XSAVE area in the standard (not compacted) format (SDM vol. 1 §13.4). CPUID leaf 0xD says where each component
/// lies.
class X86Xsave {
 public:
  static constexpr std::size_t smallest = 576;  ///< bytes: the legacy region and the header

  /// Throws InvalidConfig for less than `smallest` bytes.
  explicit X86Xsave(std::vector<std::uint8_t> bytes);

  const std::vector<std::uint8_t>& bytes() const noexcept { return bytes_; }
  std::uint8_t* data() noexcept { return bytes_.data(); }
  std::size_t size() const noexcept { return bytes_.size(); }

  /// Which components hold something else than their initial values; the header's first word.
  std::uint64_t xstate_bv() const noexcept;
  void set_xstate_bv(std::uint64_t components) noexcept;
  /// Not zero for the compacted format, which KVM does not use here.
  std::uint64_t xcomp_bv() const noexcept;

  /// x87 and SSE out of the legacy region. A component whose bit in `xstate_bv` is clear reads as its initial values.
  X86Fpu legacy() const noexcept;
  /// Puts them there, and sets bits 0 and 1 of `xstate_bv`.
  void set_legacy(const X86Fpu& fpu) noexcept;

 private:
  std::vector<std::uint8_t> bytes_;
};

}  // namespace vm::accel
