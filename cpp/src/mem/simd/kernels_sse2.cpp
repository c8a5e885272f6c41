/// \file
/// The kernels for SSE2, which every x86-64 processor has.

#include "mem/simd/kernel_tables.hpp"

#if defined(__x86_64__) || defined(_M_X64)

#include "mem/simd/vector128.hpp"

namespace vm::mem::simd::detail {
namespace {

struct Sse2 : Vector128<Sse2> {
  static constexpr std::size_t width = 16;
  static constexpr std::size_t registers = 16;
  using Vector = __m128i;

  static Vector load(const Byte* from) noexcept { return load16(from); }
  static void store(Byte* to, Vector v) noexcept { store16(to, v); }
  static void store_aligned(Byte* to, Vector v) noexcept { _mm_store_si128(reinterpret_cast<__m128i*>(to), v); }
  static void stream(Byte* to, Vector v) noexcept { _mm_stream_si128(reinterpret_cast<__m128i*>(to), v); }
  static Vector splat(unsigned char value) noexcept { return splat16(value); }
  static Vector differing(Vector a, Vector b) noexcept { return _mm_xor_si128(a, b); }
  static Vector either(Vector a, Vector b) noexcept { return _mm_or_si128(a, b); }
  static bool zero(Vector a) noexcept { return _mm_movemask_epi8(_mm_cmpeq_epi8(a, _mm_setzero_si128())) == 0xffff; }
};

constexpr Kernels kernels = Loops<Sse2>::kernels;

}  // namespace

const Kernels* sse2_kernels() noexcept { return &kernels; }

}  // namespace vm::mem::simd::detail

#else

namespace vm::mem::simd::detail {
const Kernels* sse2_kernels() noexcept { return nullptr; }
}  // namespace vm::mem::simd::detail

#endif
