#pragma once
/// \file
/// memcpy_raw in a file with other flags.

#include <cstddef>

namespace vm::mem::simd {

bool inlined_for_avx512() noexcept;
void copy_inlined(void* dst, const void* src, std::size_t size) noexcept;

}  // namespace vm::mem::simd
