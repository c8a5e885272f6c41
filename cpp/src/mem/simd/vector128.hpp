#pragma once
/// \file
/// What the vector types of x86 share: pieces of 16 bytes, streaming, comparison by SSE2. A template of the type that
/// is made from it, so that each file has its own.

#include <emmintrin.h>

#include "mem/simd/kernel_loops.hpp"
#include "mem/simd/kernel_pieces.hpp"

namespace vm::mem::simd::detail {

template <class T>
struct Vector128 : Pieces<T> {
  using Byte = unsigned char;

  static __m128i load16(const Byte* from) noexcept { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
  static void store16(Byte* to, __m128i vector) noexcept { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), vector); }
  static __m128i splat16(unsigned char value) noexcept { return _mm_set1_epi8(static_cast<char>(value)); }

  static void fence() noexcept { _mm_sfence(); }
  static void prefetch(const Byte* at) noexcept { _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0); }

  static unsigned differing16(const Byte* a, const Byte* b) noexcept {
    return ~static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(load16(a), load16(b)))) & 0xffffU;
  }
  static std::size_t mismatch_block(const Byte* a, const Byte* b) noexcept {
    for (std::size_t at = 0; at < 64; at += 16) {
      const unsigned difference = differing16(a + at, b + at);
      if (difference != 0) return at + static_cast<unsigned>(__builtin_ctz(difference));
    }
    return 64;
  }
};

}  // namespace vm::mem::simd::detail
