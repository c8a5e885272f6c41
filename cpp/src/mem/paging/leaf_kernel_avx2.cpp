/// \file
/// The leaf kernel for AVX2. The only file of this room compiled with that flag.

#include "mem/paging/leaf_kernel.hpp"

#if defined(VM_HAVE_AVX2_KERNELS)

#include <immintrin.h>

#include "mem/paging/vector_kernel.hpp"

namespace vm::mem::paging {
namespace {

struct Lanes256 {
  struct Mask {
    __m256i m;  // all ones or all zeros per lane
    friend Mask operator&(Mask a, Mask b) { return {_mm256_and_si256(a.m, b.m)}; }
    friend Mask operator|(Mask a, Mask b) { return {_mm256_or_si256(a.m, b.m)}; }
    Mask operator~() const { return {_mm256_xor_si256(m, _mm256_set1_epi64x(-1))}; }
  };
  static constexpr std::size_t lanes = 4;
  __m256i v;

  Lanes256(__m256i x) : v(x) {}
  explicit Lanes256(std::uint64_t x) : v(_mm256_set1_epi64x(static_cast<long long>(x))) {}
  static Lanes256 load(const std::uint64_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  void store(std::uint64_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }

  friend Lanes256 operator+(Lanes256 a, Lanes256 b) { return _mm256_add_epi64(a.v, b.v); }
  friend Lanes256 operator-(Lanes256 a, Lanes256 b) { return _mm256_sub_epi64(a.v, b.v); }
  friend Lanes256 operator&(Lanes256 a, Lanes256 b) { return _mm256_and_si256(a.v, b.v); }
  friend Lanes256 operator|(Lanes256 a, Lanes256 b) { return _mm256_or_si256(a.v, b.v); }
  friend Lanes256 operator^(Lanes256 a, Lanes256 b) { return _mm256_xor_si256(a.v, b.v); }
  friend Lanes256 operator>>(Lanes256 a, unsigned n) {
    return _mm256_srl_epi64(a.v, _mm_cvtsi32_si128(static_cast<int>(n)));
  }
  friend Lanes256 operator<<(Lanes256 a, unsigned n) {
    return _mm256_sll_epi64(a.v, _mm_cvtsi32_si128(static_cast<int>(n)));
  }

  friend Lanes256 shift_right(Lanes256 a, Lanes256 n) { return _mm256_srlv_epi64(a.v, n.v); }
  friend Lanes256 gather(Lanes256 at) {
    return _mm256_i64gather_epi64(static_cast<const long long*>(nullptr), at.v, 1);
  }
  friend Lanes256 gather_if(Mask m, Lanes256 at) {
    return _mm256_mask_i64gather_epi64(_mm256_setzero_si256(), static_cast<const long long*>(nullptr), at.v, m.m, 1);
  }
  friend Mask equal(Lanes256 a, Lanes256 b) { return {_mm256_cmpeq_epi64(a.v, b.v)}; }
  friend Mask is_zero(Lanes256 a) { return {_mm256_cmpeq_epi64(a.v, _mm256_setzero_si256())}; }
  friend Mask is_negative(Lanes256 a) { return {_mm256_cmpgt_epi64(_mm256_setzero_si256(), a.v)}; }
  friend Lanes256 select(Mask m, Lanes256 yes, Lanes256 no) { return _mm256_blendv_epi8(no.v, yes.v, m.m); }
  friend unsigned bits(Mask m) { return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(m.m))); }
  friend void store_low16(Lanes256 a, PackedInfo* p) {
    // The low words of each 128-bit half become one doubleword, the two doublewords one quadword.
    const __m256i picked =
        _mm256_shuffle_epi8(a.v, _mm256_setr_epi8(0, 1, 8, 9, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                                  0, 1, 8, 9, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    const __m128i joined = _mm_unpacklo_epi32(_mm256_castsi256_si128(picked), _mm256_extracti128_si256(picked, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), joined);
  }
  friend void prefetch_each(Lanes256 at) {
    alignas(32) std::uint64_t p[lanes];
    _mm256_store_si256(reinterpret_cast<__m256i*>(p), at.v);
    for (const std::uint64_t a : p) _mm_prefetch(reinterpret_cast<const char*>(a), _MM_HINT_T0);
  }
};

}  // namespace

LeafKernel avx2_leaf_kernel(LeafShape shape) noexcept { return vector_kernel_for<Lanes256>(shape); }

}  // namespace vm::mem::paging

#else

namespace vm::mem::paging {
LeafKernel avx2_leaf_kernel(LeafShape) noexcept { return nullptr; }
}  // namespace vm::mem::paging

#endif
