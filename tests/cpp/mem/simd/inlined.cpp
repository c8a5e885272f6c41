// memcpy_raw as a file compiled for AVX-512 has it. Nothing else may be in this file: what it instantiates could be
// taken for the whole program.

#include "inlined.hpp"

#include "vm/mem/simd/memcpy.hpp"

namespace vm::mem::simd {

bool inlined_for_avx512() noexcept {
#if defined(__AVX512BW__)
  return true;
#else
  return false;
#endif
}

void copy_inlined(void* dst, const void* src, std::size_t size) noexcept { memcpy_raw(dst, src, size); }

}  // namespace vm::mem::simd
