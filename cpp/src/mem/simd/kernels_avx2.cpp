/// \file
/// The kernels for AVX2. The only file of this room compiled with that flag.

#include "mem/simd/kernel_tables.hpp"

#if defined(VM_HAVE_AVX2_KERNELS)

#include <immintrin.h>

#include "mem/simd/vector128.hpp"

namespace vm::mem::simd::detail {
namespace {

struct Avx2 : Vector128<Avx2> {
  static constexpr std::size_t width = 32;
  static constexpr std::size_t registers = 16;
  using Vector = __m256i;

  static Vector load(const Byte* from) noexcept { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void store(Byte* to, Vector v) noexcept { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }
  static void store_aligned(Byte* to, Vector v) noexcept { _mm256_store_si256(reinterpret_cast<__m256i*>(to), v); }
  static void stream(Byte* to, Vector v) noexcept { _mm256_stream_si256(reinterpret_cast<__m256i*>(to), v); }
  static Vector splat(unsigned char value) noexcept { return _mm256_set1_epi8(static_cast<char>(value)); }
  static Vector differing(Vector a, Vector b) noexcept { return _mm256_xor_si256(a, b); }
  static Vector either(Vector a, Vector b) noexcept { return _mm256_or_si256(a, b); }
  static bool zero(Vector a) noexcept { return _mm256_testz_si256(a, a) != 0; }

  static std::size_t mismatch_block(const Byte* a, const Byte* b) noexcept {
    const auto equal = [&](std::size_t at) {
      return static_cast<unsigned>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(load(a + at), load(b + at))));
    };
    const std::uint64_t both = equal(0) | static_cast<std::uint64_t>(equal(width)) << width;
    return both == ~std::uint64_t{0} ? 64 : static_cast<unsigned>(__builtin_ctzll(~both));
  }
};

constexpr Kernels kernels = Loops<Avx2>::kernels;

}  // namespace

const Kernels* avx2_kernels() noexcept { return &kernels; }

}  // namespace vm::mem::simd::detail

#else

namespace vm::mem::simd::detail {
const Kernels* avx2_kernels() noexcept { return nullptr; }
}  // namespace vm::mem::simd::detail

#endif
