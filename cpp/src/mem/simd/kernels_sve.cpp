/// \file
/// The kernels for SVE, whatever the length of its vectors. The only file of this room compiled with that flag.

#include "mem/simd/kernel_tables.hpp"

#if defined(VM_HAVE_SVE_KERNELS)

#include <arm_sve.h>

namespace vm::mem::simd::detail {
namespace {

using Byte = unsigned char;

// Two predicated vectors do every size up to both, without a jump for each size; what a predicate leaves out is neither
// read nor written.
void copy_two(Byte* to, const Byte* from, std::size_t n) noexcept {
  const svbool_t low = svwhilelt_b8_u64(0, n), high = svwhilelt_b8_u64(svcntb(), n);
  const svuint8_t a = svld1_u8(low, from), b = svld1_vnum_u8(high, from, 1);
  svst1_u8(low, to, a);
  svst1_vnum_u8(high, to, 1, b);
}

// Each step loads before it stores, so `to` may be below `from` and overlap it.
void copy_up(Byte* to, const Byte* from, std::size_t n) noexcept {
  const std::size_t vector = svcntb(), step = 4 * vector;
  const svbool_t all = svptrue_b8();
  std::size_t at = 0;
  for (; n - at >= step; at += step) {
    const svuint8_t a = svld1_u8(all, from + at), b = svld1_vnum_u8(all, from + at, 1);
    const svuint8_t c = svld1_vnum_u8(all, from + at, 2), d = svld1_vnum_u8(all, from + at, 3);
    svst1_u8(all, to + at, a);
    svst1_vnum_u8(all, to + at, 1, b);
    svst1_vnum_u8(all, to + at, 2, c);
    svst1_vnum_u8(all, to + at, 3, d);
  }
  for (; at < n; at += vector) {
    const svbool_t here = svwhilelt_b8_u64(at, n);
    svst1_u8(here, to + at, svld1_u8(here, from + at));
  }
}

void move_down(Byte* to, const Byte* from, std::size_t n) noexcept {
  const std::size_t vector = svcntb();
  for (; n >= vector; n -= vector) {
    svst1_u8(svptrue_b8(), to + n - vector, svld1_u8(svptrue_b8(), from + n - vector));
  }
  const svbool_t rest = svwhilelt_b8_u64(0, n);
  svst1_u8(rest, to, svld1_u8(rest, from));
}

void copy_past_caches(Byte* to, const Byte* from, std::size_t n, std::size_t ahead) noexcept {
  const std::size_t vector = svcntb();
  for (std::size_t at = 0; at < n; at += vector) {
    const svbool_t here = svwhilelt_b8_u64(at, n);
    if (ahead != 0) svprfb(svptrue_b8(), from + at + ahead, SV_PLDL1STRM);
    svstnt1_u8(here, to + at, svld1_u8(here, from + at));
  }
}

void copy(void* dst, const void* src, std::size_t n, const CopyPlan& plan) noexcept {
  auto* to = static_cast<Byte*>(dst);
  const auto* from = static_cast<const Byte*>(src);
  if (n <= 2 * svcntb()) return copy_two(to, from, n);
  if (n > small_copy && n >= plan.stream_from) return copy_past_caches(to, from, n, plan.prefetch_distance);
  copy_up(to, from, n);
}

void copy_streaming(void* dst, const void* src, std::size_t n, const CopyPlan& plan) noexcept {
  copy_past_caches(static_cast<Byte*>(dst), static_cast<const Byte*>(src), n, plan.prefetch_distance);
}

void move(void* dst, const void* src, std::size_t n, const CopyPlan& plan) noexcept {
  auto* to = static_cast<Byte*>(dst);
  const auto* from = static_cast<const Byte*>(src);
  if (n <= 2 * svcntb()) return copy_two(to, from, n);
  const std::uintptr_t above = reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from);
  if (above >= n && std::uintptr_t{0} - above >= n) return copy(dst, src, n, plan);
  if (above >= n) return copy_up(to, from, n);
  if (above != 0) move_down(to, from, n);
}

void fill(void* dst, unsigned char value, std::size_t n, const CopyPlan& plan) noexcept {
  auto* to = static_cast<Byte*>(dst);
  const svuint8_t all = svdup_n_u8(value);
  const bool past_caches = n >= plan.fill_stream_from;
  for (std::size_t at = 0; at < n; at += svcntb()) {
    const svbool_t here = svwhilelt_b8_u64(at, n);
    if (past_caches) {
      svstnt1_u8(here, to + at, all);
    } else {
      svst1_u8(here, to + at, all);
    }
  }
}

std::size_t mismatch(const void* left, const void* right, std::size_t n) noexcept {
  const auto* a = static_cast<const Byte*>(left);
  const auto* b = static_cast<const Byte*>(right);
  for (std::size_t at = 0; at < n; at += svcntb()) {
    const svbool_t here = svwhilelt_b8_u64(at, n);
    const svbool_t different = svcmpne_u8(here, svld1_u8(here, a + at), svld1_u8(here, b + at));
    if (svptest_any(here, different)) return at + svcntp_b8(here, svbrkb_b_z(here, different));
  }
  return n;
}

constexpr Kernels kernels{copy, copy_streaming, move, fill, mismatch};

}  // namespace

const Kernels* sve_kernels() noexcept { return &kernels; }

}  // namespace vm::mem::simd::detail

#else

namespace vm::mem::simd::detail {
const Kernels* sve_kernels() noexcept { return nullptr; }
}  // namespace vm::mem::simd::detail

#endif
