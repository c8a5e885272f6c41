#pragma once
/// \file
/// The copy and fill instructions of x86. Templates, so that each file that uses them has its own.

#include <cstddef>

#if defined(_MSC_VER) && defined(_M_X64)
#include <intrin.h>
#endif

namespace vm::mem::simd::detail {

#if defined(__x86_64__) || defined(_M_X64)
inline constexpr bool have_string_instructions = true;

template <class>
void string_copy(void* to, const void* from, std::size_t n) noexcept {
#if defined(_MSC_VER)
  __movsb(static_cast<unsigned char*>(to), static_cast<const unsigned char*>(from), n);
#else
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
#endif
}

template <class>
void string_fill(void* to, unsigned char value, std::size_t n) noexcept {
#if defined(_MSC_VER)
  __stosb(static_cast<unsigned char*>(to), value, n);
#else
  __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
#endif
}

#else
inline constexpr bool have_string_instructions = false;

// A strategy that would come here cannot be made: MemcpyStrategy refuses plans with strings on other processors.
template <class>
void string_copy(void*, const void*, std::size_t) noexcept {}
template <class>
void string_fill(void*, unsigned char, std::size_t) noexcept {}
#endif

}  // namespace vm::mem::simd::detail
