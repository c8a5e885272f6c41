/// \file
/// The kernels for AVX-512 F, DQ, BW and VL with BMI2. The only file of this room compiled with those flags.

#include "mem/simd/kernel_tables.hpp"

#if defined(VM_HAVE_AVX512_KERNELS)

// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for mistakes (PR 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "mem/simd/kernel_loops.hpp"

namespace vm::mem::simd::detail {
namespace {

struct Avx512 {
  using Byte = unsigned char;
  static constexpr std::size_t width = 64;
  static constexpr std::size_t registers = 32;
  using Vector = __m512i;

  static Vector load(const Byte* from) noexcept { return _mm512_loadu_si512(from); }
  static void store(Byte* to, Vector v) noexcept { _mm512_storeu_si512(to, v); }
  static void store_aligned(Byte* to, Vector v) noexcept { _mm512_store_si512(to, v); }
  static void stream(Byte* to, Vector v) noexcept { _mm512_stream_si512(reinterpret_cast<__m512i*>(to), v); }
  static void fence() noexcept { _mm_sfence(); }
  static void prefetch(const Byte* at) noexcept { _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0); }
  static Vector splat(unsigned char value) noexcept { return _mm512_set1_epi8(static_cast<char>(value)); }
  static Vector differing(Vector a, Vector b) noexcept { return _mm512_xor_si512(a, b); }
  static Vector either(Vector a, Vector b) noexcept { return _mm512_or_si512(a, b); }
  static bool zero(Vector a) noexcept { return _mm512_test_epi64_mask(a, a) == 0; }

  // The bytes beyond n are neither read nor written, and do not fault: one path for 65 sizes, nothing to predict.
  static __mmask64 first(std::size_t n) noexcept { return _bzhi_u64(~0ULL, static_cast<unsigned>(n)); }
  static void copy_block(Byte* to, const Byte* from, std::size_t n) noexcept {
    _mm512_mask_storeu_epi8(to, first(n), _mm512_maskz_loadu_epi8(first(n), from));
  }
  static void fill_block(Byte* to, unsigned char value, std::size_t n) noexcept {
    _mm512_mask_storeu_epi8(to, first(n), splat(value));
  }
  static std::size_t mismatch_short(const Byte* a, const Byte* b, std::size_t n) noexcept {
    const __mmask64 wanted = first(n);
    const Vector left = _mm512_maskz_loadu_epi8(wanted, a), right = _mm512_maskz_loadu_epi8(wanted, b);
    const std::uint64_t different = _cvtmask64_u64(_mm512_cmpneq_epi8_mask(left, right));
    return different == 0 ? n : static_cast<unsigned>(__builtin_ctzll(different));
  }
  static std::size_t mismatch_block(const Byte* a, const Byte* b) noexcept { return mismatch_short(a, b, 64); }
};

constexpr Kernels kernels = Loops<Avx512>::kernels;

}  // namespace

const Kernels* avx512_kernels() noexcept { return &kernels; }

}  // namespace vm::mem::simd::detail

#else

namespace vm::mem::simd::detail {
const Kernels* avx512_kernels() noexcept { return nullptr; }
}  // namespace vm::mem::simd::detail

#endif
