#include "vm/mem/simd/memcpy.hpp"

#include <cstdint>
#include <string>

#include "vm/core/error.hpp"

namespace vm::mem::simd {

namespace detail {
namespace {

// The first calls: they find the kernels, which replaces these functions, and do what was asked.
void first_copy(void* dst, const void* src, std::size_t size, const CopyPlan& /*plan*/) noexcept {
  default_strategy().copy(dst, src, size);
}
void first_move(void* dst, const void* src, std::size_t size, const CopyPlan& /*plan*/) noexcept {
  default_strategy().move(dst, src, size);
}
void first_fill(void* dst, unsigned char value, std::size_t size, const CopyPlan& /*plan*/) noexcept {
  default_strategy().fill(dst, value, size);
}
std::size_t first_mismatch(const void* a, const void* b, std::size_t size) noexcept {
  return default_strategy().mismatch(a, b, size);
}

MemcpyStrategy find_strategy() noexcept {
  try {
    return MemcpyStrategy::detect();
  } catch (...) {
    return MemcpyStrategy::baseline();
  }
}

// Called once: the plan is never written again while others read it.
void publish(const MemcpyStrategy& strategy) noexcept {
  dispatch.plan = strategy.plan();
  // Each release pairs with the acquire of the function that loads the pointer, which then reads the plan.
  dispatch.copy.store(strategy.kernels().copy, std::memory_order_release);
  dispatch.move.store(strategy.kernels().move, std::memory_order_release);
  dispatch.fill.store(strategy.kernels().fill, std::memory_order_release);
  dispatch.mismatch.store(strategy.kernels().mismatch, std::memory_order_release);
}

bool overlap(const void* a, const void* b, std::size_t size) noexcept {
  const auto x = reinterpret_cast<std::uintptr_t>(a), y = reinterpret_cast<std::uintptr_t>(b);
  return x < y ? y - x < size : x - y < size;
}

void check_sizes(std::size_t dst_size, std::size_t src_size) {
  if (dst_size != src_size)
    throw InvalidConfig("the destination has " + std::to_string(dst_size) + " bytes, the source " +
                        std::to_string(src_size) + "; give parts of equal size");
}

}  // namespace

Dispatch dispatch{{first_copy}, {first_move}, {first_fill}, {first_mismatch}, {}};

void copy_checked(void* dst, std::size_t dst_size, const void* src, std::size_t src_size) {
  check_sizes(dst_size, src_size);
  if (overlap(dst, src, dst_size))
    throw InvalidConfig("the destination overlaps the source; memmove_fast copies such ranges");
  memcpy_raw(dst, src, dst_size);
}

void move_checked(void* dst, std::size_t dst_size, const void* src, std::size_t src_size) {
  check_sizes(dst_size, src_size);
  memmove_raw(dst, src, dst_size);
}

}  // namespace detail

const MemcpyStrategy& default_strategy() noexcept {
  static const MemcpyStrategy strategy = [] {
    const MemcpyStrategy found = detail::find_strategy();
    detail::publish(found);
    return found;
  }();
  return strategy;
}

namespace {

bool has(InstructionSet set) noexcept {
  try {
    return why_not(set, CpuFeatures::detect()).empty();
  } catch (...) {
    return set == default_strategy().plan().instruction_set;
  }
}

}  // namespace

bool has_avx512() noexcept {
  static const bool answer = has(InstructionSet::avx512);
  return answer;
}

bool has_avx2() noexcept {
  static const bool answer = has(InstructionSet::avx2);
  return answer;
}

bool has_neon() noexcept {
  static const bool answer = has(InstructionSet::neon);
  return answer;
}

const char* simd_feature_name() noexcept {
  switch (default_strategy().plan().instruction_set) {
    case InstructionSet::scalar: return "none (64-bit words)";
    case InstructionSet::sse2: return "SSE2 (128-bit)";
    case InstructionSet::avx: return "AVX (256-bit)";
    case InstructionSet::avx2: return "AVX2 (256-bit)";
    case InstructionSet::avx512: return "AVX-512 (512-bit)";
    case InstructionSet::neon: return "NEON (128-bit)";
    case InstructionSet::sve: return "SVE (scalable)";
  }
  return "none (64-bit words)";
}

}  // namespace vm::mem::simd
