/// \file
/// The kernels for any processor: 64-bit words.

#include "mem/simd/kernel_loops.hpp"
#include "mem/simd/kernel_pieces.hpp"
#include "mem/simd/kernel_tables.hpp"

namespace vm::mem::simd::detail {
namespace {

struct TwoWords {
  std::uint64_t low, high;
};

struct Scalar : Pieces<Scalar> {
  static constexpr std::size_t width = 8;
  static constexpr std::size_t registers = 16;
  using Vector = std::uint64_t;

  static Vector load(const Byte* from) noexcept { return get<Vector>(from); }
  static void store(Byte* to, Vector word) noexcept { put(to, word); }
  static void store_aligned(Byte* to, Vector word) noexcept { put(to, word); }
  static void stream(Byte* to, Vector word) noexcept { put(to, word); }
  static void fence() noexcept {}
  static void prefetch(const Byte* at) noexcept { __builtin_prefetch(at); }
  static Vector splat(unsigned char value) noexcept { return 0x0101010101010101U * value; }
  static Vector differing(Vector a, Vector b) noexcept { return a ^ b; }
  static Vector either(Vector a, Vector b) noexcept { return a | b; }
  static bool zero(Vector a) noexcept { return a == 0; }

  static TwoWords load16(const Byte* from) noexcept { return get<TwoWords>(from); }
  static void store16(Byte* to, TwoWords words) noexcept { put(to, words); }
  static TwoWords splat16(unsigned char value) noexcept { return {splat(value), splat(value)}; }

  static std::size_t mismatch_block(const Byte* a, const Byte* b) noexcept {
    for (std::size_t at = 0; at < 64; at += width) {
      const Vector difference = load(a + at) ^ load(b + at);
      if (difference != 0) return at + first_byte(difference);
    }
    return 64;
  }
};

constexpr Kernels kernels = Loops<Scalar>::kernels;

}  // namespace

const Kernels* scalar_kernels() noexcept { return &kernels; }

}  // namespace vm::mem::simd::detail
