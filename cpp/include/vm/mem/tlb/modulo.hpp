#pragma once
/// \file
/// Remainders by a divisor that is known when a table is built and not when it is compiled.

#include <cstdint>

namespace vm::mem::tlb {

/// `value % divisor` for values below 2^63 without a division, by a multiplication with the rounded-up reciprocal
/// (Granlund and Montgomery, PLDI 1994).
class Modulo {
 public:
  /// `divisor` is at least 1.
  explicit constexpr Modulo(std::uint32_t divisor) noexcept : divisor_(divisor) {
    // 2^(64 + shift) / divisor must fit 64 bits: shift is floor(log2), one less for powers of two.
    while ((std::uint64_t{2} << shift_) < divisor) ++shift_;
#if defined(__SIZEOF_INT128__)
    if (divisor > 1)
      reciprocal_ = static_cast<std::uint64_t>(((static_cast<Wide>(1) << (64 + shift_)) + divisor - 1) / divisor);
#endif
  }

  constexpr std::uint32_t divisor() const noexcept { return divisor_; }

  constexpr std::uint32_t operator()(std::uint64_t value) const noexcept {
#if defined(__SIZEOF_INT128__)
    if (divisor_ == 1) return 0;
    const std::uint64_t quotient = static_cast<std::uint64_t>(static_cast<Wide>(value) * reciprocal_ >> 64) >> shift_;
    return static_cast<std::uint32_t>(value - quotient * divisor_);
#else
    return static_cast<std::uint32_t>(value % divisor_);
#endif
  }

 private:
#if defined(__SIZEOF_INT128__)
  __extension__ using Wide = unsigned __int128;
#endif
  std::uint64_t reciprocal_ = 0;
  std::uint32_t divisor_;
  unsigned shift_ = 0;
};

}  // namespace vm::mem::tlb
