#pragma once
/// \file
/// A plan bound to the kernels that carry it out.

#include <cstddef>

#include "vm/mem/simd/copy_plan.hpp"

namespace vm::mem::simd {

namespace detail {

using CopyKernel = void (*)(void* dst, const void* src, std::size_t size, const CopyPlan& plan) noexcept;
using FillKernel = void (*)(void* dst, unsigned char value, std::size_t size, const CopyPlan& plan) noexcept;
using MismatchKernel = std::size_t (*)(const void* a, const void* b, std::size_t size) noexcept;

/// What one instruction set has to offer.
struct Kernels {
  CopyKernel copy;
  CopyKernel stream;
  CopyKernel move;
  FillKernel fill;
  MismatchKernel mismatch;
};

}  // namespace detail

/// Copies, moves, fills and compares after one plan. Immutable; any thread may use it at any time. Sizes are bytes, and
/// a size of 0 touches nothing. Nothing is checked: the callers of memcpy.hpp that check are built on it.
class MemcpyStrategy {
 public:
  /// \throws NotSupported when this machine or build lacks what the plan needs.
  explicit MemcpyStrategy(const CopyPlan& plan);

  /// The strategy for this machine. Costs about a millisecond; \throws what CpuFeatures::detect throws.
  static MemcpyStrategy detect();
  /// What every processor of the build's architecture can do, with nothing known about this one.
  static MemcpyStrategy baseline() noexcept;

  const CopyPlan& plan() const noexcept { return plan_; }
  const detail::Kernels& kernels() const noexcept { return kernels_; }

  /// The two ranges must not overlap.
  void copy(void* dst, const void* src, std::size_t size) const noexcept { kernels_.copy(dst, src, size, plan_); }
  /// As `copy`, for data that nobody will read soon: from `plan().stream_hint_from` on it goes past the caches.
  void copy_streaming(void* dst, const void* src, std::size_t size) const noexcept {
    (size >= plan_.stream_hint_from ? kernels_.stream : kernels_.copy)(dst, src, size, plan_);
  }
  /// The ranges may overlap: `dst` gets what `src` held before.
  void move(void* dst, const void* src, std::size_t size) const noexcept { kernels_.move(dst, src, size, plan_); }
  void fill(void* dst, unsigned char value, std::size_t size) const noexcept { kernels_.fill(dst, value, size, plan_); }
  /// Offset of the first byte that differs; `size` when none does.
  std::size_t mismatch(const void* a, const void* b, std::size_t size) const noexcept {
    return kernels_.mismatch(a, b, size);
  }
  /// Negative, 0 or positive, as std::memcmp: the order of the first bytes that differ, taken as unsigned.
  int compare(const void* a, const void* b, std::size_t size) const noexcept;

 private:
  MemcpyStrategy(const CopyPlan& plan, const detail::Kernels& kernels) noexcept : plan_(plan), kernels_(kernels) {}

  CopyPlan plan_;
  detail::Kernels kernels_;
};

}  // namespace vm::mem::simd
