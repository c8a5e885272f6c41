/// \file
/// The leaf kernel for AVX-512 F, DQ, BW and VL. The only file of this room compiled with those flags.

#include "mem/paging/leaf_kernel.hpp"

#if defined(VM_HAVE_AVX512_KERNELS)

// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for mistakes (PR 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

#include "mem/paging/vector_kernel.hpp"

namespace vm::mem::paging {
namespace {

struct Lanes512 {
  struct Mask {
    __mmask8 m;
    friend Mask operator&(Mask a, Mask b) { return {static_cast<__mmask8>(a.m & b.m)}; }
    friend Mask operator|(Mask a, Mask b) { return {static_cast<__mmask8>(a.m | b.m)}; }
    Mask operator~() const { return {static_cast<__mmask8>(~m)}; }
  };
  using Words = unsigned long long __attribute__((vector_size(64)));
  static constexpr std::size_t lanes = 8;
  __m512i v;

  Lanes512(__m512i x) : v(x) {}
  explicit Lanes512(std::uint64_t x) : v(_mm512_set1_epi64(static_cast<long long>(x))) {}
  static Lanes512 load(const std::uint64_t* p) { return _mm512_loadu_si512(p); }
  void store(std::uint64_t* p) const { _mm512_storeu_si512(p, v); }

  friend Lanes512 operator+(Lanes512 a, Lanes512 b) { return _mm512_add_epi64(a.v, b.v); }
  friend Lanes512 operator-(Lanes512 a, Lanes512 b) { return _mm512_sub_epi64(a.v, b.v); }
  friend Lanes512 operator&(Lanes512 a, Lanes512 b) { return _mm512_and_si512(a.v, b.v); }
  friend Lanes512 operator|(Lanes512 a, Lanes512 b) { return _mm512_or_si512(a.v, b.v); }
  friend Lanes512 operator^(Lanes512 a, Lanes512 b) { return _mm512_xor_si512(a.v, b.v); }
  friend Lanes512 operator>>(Lanes512 a, unsigned n) { return __m512i(Words(a.v) >> n); }
  friend Lanes512 operator<<(Lanes512 a, unsigned n) { return __m512i(Words(a.v) << n); }

  friend Lanes512 shift_right(Lanes512 a, Lanes512 n) { return _mm512_srlv_epi64(a.v, n.v); }
  friend Lanes512 gather_if(Mask m, Lanes512 at) {
    return _mm512_mask_i64gather_epi64(_mm512_setzero_si512(), m.m, at.v, nullptr, 1);
  }
  friend Lanes512 gather(Lanes512 at) { return gather_if(Mask{0xFF}, at); }
  friend Mask equal(Lanes512 a, Lanes512 b) { return {_mm512_cmpeq_epi64_mask(a.v, b.v)}; }
  friend Mask is_zero(Lanes512 a) { return {_mm512_testn_epi64_mask(a.v, a.v)}; }
  friend Mask is_negative(Lanes512 a) { return {_mm512_movepi64_mask(a.v)}; }
  friend Lanes512 select(Mask m, Lanes512 yes, Lanes512 no) { return _mm512_mask_blend_epi64(m.m, no.v, yes.v); }
  friend unsigned bits(Mask m) { return m.m; }
  friend void store_low16(Lanes512 a, PackedInfo* p) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi64_epi16(a.v));
  }
  friend void prefetch_each(Lanes512 at) {
    alignas(64) std::uint64_t p[lanes];
    _mm512_store_si512(p, at.v);
    for (const std::uint64_t a : p) _mm_prefetch(reinterpret_cast<const char*>(a), _MM_HINT_T0);
  }
};

}  // namespace

LeafKernel avx512_leaf_kernel(LeafShape shape) noexcept { return vector_kernel_for<Lanes512>(shape); }

}  // namespace vm::mem::paging

#else

namespace vm::mem::paging {
LeafKernel avx512_leaf_kernel(LeafShape) noexcept { return nullptr; }
}  // namespace vm::mem::paging

#endif
