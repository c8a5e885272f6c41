/// \file
/// The kernels for NEON (Advanced SIMD), which every AArch64 processor has.

#include "mem/simd/kernel_tables.hpp"

#if defined(__aarch64__)

#include <arm_neon.h>

#include "mem/simd/kernel_loops.hpp"
#include "mem/simd/kernel_pieces.hpp"

namespace vm::mem::simd::detail {
namespace {

struct Neon : Pieces<Neon> {
  static constexpr std::size_t width = 16;
  static constexpr std::size_t registers = 32;
  using Vector = uint8x16_t;

  static Vector load(const Byte* from) noexcept { return vld1q_u8(from); }
  static void store(Byte* to, Vector v) noexcept { vst1q_u8(to, v); }
  static void store_aligned(Byte* to, Vector v) noexcept { vst1q_u8(to, v); }
  // The architecture has non-temporal stores of pairs only: one vector is a pair of words.
  static void stream(Byte* to, Vector v) noexcept {
    const uint64x2_t words = vreinterpretq_u64_u8(v);
    const std::uint64_t low = vgetq_lane_u64(words, 0), high = vgetq_lane_u64(words, 1);
    __asm__ volatile("stnp %0, %1, [%2]" : : "r"(low), "r"(high), "r"(to) : "memory");
  }
  static void fence() noexcept {}  // such stores are ordered as others are
  static void prefetch(const Byte* at) noexcept { __builtin_prefetch(at); }
  static Vector splat(unsigned char value) noexcept { return vdupq_n_u8(value); }
  static Vector differing(Vector a, Vector b) noexcept { return veorq_u8(a, b); }
  static Vector either(Vector a, Vector b) noexcept { return vorrq_u8(a, b); }
  static bool zero(Vector a) noexcept { return vmaxvq_u8(a) == 0; }

  static Vector load16(const Byte* from) noexcept { return load(from); }
  static void store16(Byte* to, Vector v) noexcept { store(to, v); }
  static Vector splat16(unsigned char value) noexcept { return splat(value); }

  static std::size_t mismatch_block(const Byte* a, const Byte* b) noexcept {
    for (std::size_t at = 0; at < 64; at += width) {
      const Vector different = vmvnq_u8(vceqq_u8(load(a + at), load(b + at)));
      // Four bits for each byte: NEON has no mask of a vector.
      const uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(different), 4);
      const std::uint64_t mask = vget_lane_u64(vreinterpret_u64_u8(nibbles), 0);
      if (mask != 0) return at + static_cast<unsigned>(__builtin_ctzll(mask)) / 4;
    }
    return 64;
  }
};

constexpr Kernels kernels = Loops<Neon>::kernels;

}  // namespace

const Kernels* neon_kernels() noexcept { return &kernels; }

}  // namespace vm::mem::simd::detail

#else

namespace vm::mem::simd::detail {
const Kernels* neon_kernels() noexcept { return nullptr; }
}  // namespace vm::mem::simd::detail

#endif
