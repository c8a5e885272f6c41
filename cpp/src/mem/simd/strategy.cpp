#include "vm/mem/simd/strategy.hpp"

#include <algorithm>

#include "mem/simd/kernel_string.hpp"
#include "mem/simd/kernel_tables.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::simd {

namespace detail {

const Kernels* kernels_of(InstructionSet set) noexcept {
  switch (set) {
    case InstructionSet::scalar: return scalar_kernels();
    case InstructionSet::sse2: return sse2_kernels();
    case InstructionSet::avx: return avx_kernels();
    case InstructionSet::avx2: return avx2_kernels();
    case InstructionSet::avx512: return avx512_kernels();
    case InstructionSet::neon: return neon_kernels();
    case InstructionSet::sve: return sve_kernels();
  }
  return scalar_kernels();
}

namespace {

Kernels checked_kernels(const CopyPlan& plan, const CpuFeatures& features) {
  const std::string reason = why_not(plan.instruction_set, features);
  if (!reason.empty())
    throw NotSupported("copies with " + std::string(name(plan.instruction_set)) + " were asked for, but " + reason +
                       "; CopyPlan::detect chooses what is there");
  if (!have_string_instructions && std::min(plan.string_from, plan.fill_string_from) != CopyPlan::never)
    throw NotSupported("rep movsb was asked for, which only x86 has; set string_from and fill_string_from to never");
  return *kernels_of(plan.instruction_set);
}

}  // namespace
}  // namespace detail

MemcpyStrategy::MemcpyStrategy(const CopyPlan& plan)
    : plan_(plan), kernels_(detail::checked_kernels(plan, CpuFeatures::detect())) {}

MemcpyStrategy MemcpyStrategy::detect() {
  const CpuFeatures features = CpuFeatures::detect();
  const CopyPlan plan = CopyPlan::for_machine(features);
  return {plan, detail::checked_kernels(plan, features)};
}

MemcpyStrategy MemcpyStrategy::baseline() noexcept {
  CopyPlan plan;
#if defined(__x86_64__) || defined(_M_X64)
  plan.instruction_set = InstructionSet::sse2;
#elif defined(__aarch64__)
  plan.instruction_set = InstructionSet::neon;
#endif
  return {plan, *detail::kernels_of(plan.instruction_set)};
}

int MemcpyStrategy::compare(const void* a, const void* b, std::size_t size) const noexcept {
  const std::size_t at = mismatch(a, b, size);
  if (at == size) return 0;
  return static_cast<const unsigned char*>(a)[at] < static_cast<const unsigned char*>(b)[at] ? -1 : 1;
}

}  // namespace vm::mem::simd
