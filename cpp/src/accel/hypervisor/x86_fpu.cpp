#include "vm/accel/hypervisor/x86_fpu.hpp"

#include <cstring>
#include <string>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

// The legacy region and the header (SDM vol. 1 table 10-2, §13.4.2).
constexpr std::size_t fcw_at = 0, fsw_at = 2, ftw_at = 4, opcode_at = 6, ip_at = 8, dp_at = 16, mxcsr_at = 24;
constexpr std::size_t fpr_at = 32, xmm_at = 160, xstate_bv_at = 512, xcomp_bv_at = 520;
constexpr std::size_t st_bytes = 10;  // of the 16 between two registers
constexpr std::uint64_t x87 = 1, sse = 2;

template <class T>
T load(const std::vector<std::uint8_t>& bytes, std::size_t at) noexcept {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

template <class T>
void store(std::vector<std::uint8_t>& bytes, std::size_t at, const T& value) noexcept {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

}  // namespace

X86Xsave::X86Xsave(std::vector<std::uint8_t> bytes) : bytes_(std::move(bytes)) {
  if (bytes_.size() < smallest)
    throw InvalidConfig("an XSAVE area has at least " + std::to_string(smallest) + " bytes, got " +
                        std::to_string(bytes_.size()));
}

std::uint64_t X86Xsave::xstate_bv() const noexcept { return load<std::uint64_t>(bytes_, xstate_bv_at); }

void X86Xsave::set_xstate_bv(std::uint64_t components) noexcept { store(bytes_, xstate_bv_at, components); }

std::uint64_t X86Xsave::xcomp_bv() const noexcept { return load<std::uint64_t>(bytes_, xcomp_bv_at); }

X86Fpu X86Xsave::legacy() const noexcept {
  X86Fpu fpu;
  fpu.mxcsr = load<std::uint32_t>(bytes_, mxcsr_at);  // outside the components that XSTATE_BV speaks of
  if ((xstate_bv() & x87) != 0) {
    fpu.fcw = load<std::uint16_t>(bytes_, fcw_at);
    fpu.fsw = load<std::uint16_t>(bytes_, fsw_at);
    fpu.ftw = load<std::uint8_t>(bytes_, ftw_at);
    fpu.last_opcode = load<std::uint16_t>(bytes_, opcode_at);
    fpu.last_ip = load<std::uint64_t>(bytes_, ip_at);
    fpu.last_dp = load<std::uint64_t>(bytes_, dp_at);
    for (std::size_t i = 0; i < fpu.fpr.size(); ++i)
      std::memcpy(fpu.fpr[i].data(), bytes_.data() + fpr_at + 16 * i, st_bytes);
  }
  if ((xstate_bv() & sse) != 0) fpu.xmm = load<decltype(fpu.xmm)>(bytes_, xmm_at);
  return fpu;
}

void X86Xsave::set_legacy(const X86Fpu& fpu) noexcept {
  store(bytes_, fcw_at, fpu.fcw);
  store(bytes_, fsw_at, fpu.fsw);
  store(bytes_, ftw_at, fpu.ftw);
  store(bytes_, opcode_at, fpu.last_opcode);
  store(bytes_, ip_at, fpu.last_ip);
  store(bytes_, dp_at, fpu.last_dp);
  store(bytes_, mxcsr_at, fpu.mxcsr);
  for (std::size_t i = 0; i < fpu.fpr.size(); ++i)
    std::memcpy(bytes_.data() + fpr_at + 16 * i, fpu.fpr[i].data(), st_bytes);
  store(bytes_, xmm_at, fpu.xmm);
  set_xstate_bv(xstate_bv() | x87 | sse);
}

}  // namespace vm::accel
