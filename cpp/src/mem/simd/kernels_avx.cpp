/// \file
/// The kernels for AVX without AVX2: 256-bit loads and stores, comparison in halves. The only file of this room
/// compiled with that flag.

#include "mem/simd/kernel_tables.hpp"

#if defined(VM_HAVE_AVX_KERNELS)

#include <immintrin.h>

#include "mem/simd/vector128.hpp"

namespace vm::mem::simd::detail {
namespace {

struct Avx : Vector128<Avx> {
  static constexpr std::size_t width = 32;
  static constexpr std::size_t registers = 16;
  using Vector = __m256i;

  static Vector load(const Byte* from) noexcept { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void store(Byte* to, Vector v) noexcept { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }
  static void store_aligned(Byte* to, Vector v) noexcept { _mm256_store_si256(reinterpret_cast<__m256i*>(to), v); }
  static void stream(Byte* to, Vector v) noexcept { _mm256_stream_si256(reinterpret_cast<__m256i*>(to), v); }
  static Vector splat(unsigned char value) noexcept { return _mm256_set1_epi8(static_cast<char>(value)); }
  // AVX has logic on floating-point registers only; the bits do not mind.
  static Vector differing(Vector a, Vector b) noexcept {
    return _mm256_castps_si256(_mm256_xor_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
  }
  static Vector either(Vector a, Vector b) noexcept {
    return _mm256_castps_si256(_mm256_or_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)));
  }
  static bool zero(Vector a) noexcept { return _mm256_testz_si256(a, a) != 0; }
};

constexpr Kernels kernels = Loops<Avx>::kernels;

}  // namespace

const Kernels* avx_kernels() noexcept { return &kernels; }

}  // namespace vm::mem::simd::detail

#else

namespace vm::mem::simd::detail {
const Kernels* avx_kernels() noexcept { return nullptr; }
}  // namespace vm::mem::simd::detail

#endif
