#pragma once
/// \file
/// Copies, moves, fills and comparisons after the best strategy for this machine, decided at the first call. The `_raw`
/// functions trust their arguments as std::memcpy does; the `_fast` functions check them.

#include <atomic>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <type_traits>

#include "vm/mem/simd/strategy.hpp"

#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__BMI2__)
#include <immintrin.h>
#endif

namespace vm::mem::simd {

namespace detail {

/// The kernels of this machine. They begin as functions that find out which those are and replace themselves; what they
/// find does not change while a process runs, so a copy in each extension module is as good as one.
struct Dispatch {
  std::atomic<CopyKernel> copy;
  std::atomic<CopyKernel> move;
  std::atomic<FillKernel> fill;
  std::atomic<MismatchKernel> mismatch;
  CopyPlan plan;  ///< written before the pointers are replaced (release); who loads one (acquire) may read it
};
extern Dispatch dispatch;

void copy_checked(void* dst, std::size_t dst_size, const void* src, std::size_t src_size);
void move_checked(void* dst, std::size_t dst_size, const void* src, std::size_t src_size);

template <class Range>
using Element = std::remove_reference_t<decltype(*std::data(std::declval<Range&>()))>;

template <class Range>
std::size_t bytes_of(const Range& range) noexcept {
  static_assert(std::is_trivially_copyable_v<Element<const Range>>, "the elements must be trivially copyable");
  return std::size(range) * sizeof(Element<const Range>);
}

}  // namespace detail

/// The strategy that the functions of this file use. Never throws: where this machine cannot be asked (`detect` throws)
/// it is the one of the instruction set that every processor of this architecture has.
const MemcpyStrategy& default_strategy() noexcept;

// What is inlined depends on the flags of the including file, so that each variant needs a name of its own.
#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__BMI2__)
inline namespace inlined_avx512 {
#else
inline namespace inlined_baseline {
#endif

/// Copies `size` bytes. Both pointers must be good for that many (for 0 bytes anything is), and the ranges must not
/// overlap: neither is checked. Up to 64 bytes, a size that the compiler knows is left to it, and a file compiled for
/// AVX-512 copies without a call; everything else is one indirect call.
inline void memcpy_raw(void* dst, const void* src, std::size_t size) noexcept {
#if defined(__GNUC__)
  if (__builtin_constant_p(size) && size <= 64) {
    std::memcpy(dst, src, size);
    return;
  }
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__BMI2__)
  if (size <= 64) {
    const __mmask64 wanted = _bzhi_u64(~0ULL, static_cast<unsigned>(size));
    _mm512_mask_storeu_epi8(dst, wanted, _mm512_maskz_loadu_epi8(wanted, src));
    return;
  }
#endif
  detail::dispatch.copy.load(std::memory_order_acquire)(dst, src, size, detail::dispatch.plan);
}

}  // namespace

/// As `memcpy_raw`, for ranges that may overlap.
inline void memmove_raw(void* dst, const void* src, std::size_t size) noexcept {
  detail::dispatch.move.load(std::memory_order_acquire)(dst, src, size, detail::dispatch.plan);
}

/// Sets `size` bytes to `value`.
inline void memset_raw(void* dst, unsigned char value, std::size_t size) noexcept {
  detail::dispatch.fill.load(std::memory_order_acquire)(dst, value, size, detail::dispatch.plan);
}

/// Offset of the first byte that differs; `size` when none does.
inline std::size_t mismatch_raw(const void* a, const void* b, std::size_t size) noexcept {
  return detail::dispatch.mismatch.load(std::memory_order_acquire)(a, b, size);
}

/// Negative, 0 or positive, as std::memcmp.
inline int memcmp_raw(const void* a, const void* b, std::size_t size) noexcept {
  const std::size_t at = mismatch_raw(a, b, size);
  if (at == size) return 0;
  return static_cast<const unsigned char*>(a)[at] < static_cast<const unsigned char*>(b)[at] ? -1 : 1;
}

/// Copies one contiguous range (array, std::vector, std::string, ...) of trivially copyable elements over another of as
/// many bytes. \throws InvalidConfig when the sizes differ or the ranges overlap (`memmove_fast` takes those).
template <class To, class From>
void memcpy_fast(To&& dst, const From& src) {
  static_assert(!std::is_const_v<detail::Element<To>>, "the destination is constant");
  detail::copy_checked(std::data(dst), detail::bytes_of(dst), std::data(src), detail::bytes_of(src));
}

/// As `memcpy_fast`, and the ranges may overlap. \throws InvalidConfig when the sizes differ.
template <class To, class From>
void memmove_fast(To&& dst, const From& src) {
  static_assert(!std::is_const_v<detail::Element<To>>, "the destination is constant");
  detail::move_checked(std::data(dst), detail::bytes_of(dst), std::data(src), detail::bytes_of(src));
}

/// Sets every byte of a contiguous range of trivially copyable elements.
template <class To>
void memset_fast(To&& dst, unsigned char value) noexcept {
  static_assert(!std::is_const_v<detail::Element<To>>, "the destination is constant");
  memset_raw(std::data(dst), value, detail::bytes_of(dst));
}

/// The order of the bytes of two ranges: negative, 0 or positive; a range that begins the other one comes first.
template <class A, class B>
int memcmp_fast(const A& a, const B& b) noexcept {
  const std::size_t first = detail::bytes_of(a), second = detail::bytes_of(b);
  const int order = memcmp_raw(std::data(a), std::data(b), first < second ? first : second);
  if (order != 0 || first == second) return order;
  return first < second ? -1 : 1;
}

/// `memcpy_raw` after a strategy of the caller's choice.
inline void simd_memcpy_optimized(void* dst, const void* src, std::size_t size,
                                  const MemcpyStrategy& strategy) noexcept {
  strategy.copy(dst, src, size);
}

/// Whether this machine and build can run the kernels of that instruction set.
bool has_avx512() noexcept;
bool has_avx2() noexcept;
bool has_neon() noexcept;
/// The instruction set of `default_strategy` in words: "AVX-512 (512-bit)".
const char* simd_feature_name() noexcept;

}  // namespace vm::mem::simd
