#pragma once
/// \file
/// Where the kernels of each instruction set are; null when this build has none.

#include "vm/mem/simd/strategy.hpp"

namespace vm::mem::simd::detail {

const Kernels* scalar_kernels() noexcept;
const Kernels* sse2_kernels() noexcept;
const Kernels* avx_kernels() noexcept;
const Kernels* avx2_kernels() noexcept;
const Kernels* avx512_kernels() noexcept;
const Kernels* neon_kernels() noexcept;
const Kernels* sve_kernels() noexcept;

const Kernels* kernels_of(InstructionSet set) noexcept;

}  // namespace vm::mem::simd::detail
