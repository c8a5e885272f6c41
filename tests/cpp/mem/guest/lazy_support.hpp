#pragma once
/// \file
/// Page sources whose bytes every test can compute.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

#include "vm/mem/guest/lazy_memory.hpp"

/// Skips the test with the reason where the kernel has no userfaultfd for us.
#define REQUIRE_LAZY_MEMORY() \
  if (const auto why = ::vm::mem::LazyMemory::unavailable()) GTEST_SKIP() << *why

namespace vm::mem::test {

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t page = 4 * kib;

/// The byte at `offset`: differs within a page and between pages, never 0.
inline std::byte byte_at(std::uint64_t offset) {
  return static_cast<std::byte>(((offset * 0x9E3779B97F4A7C15ULL) >> 56) | 1U);
}

inline void fill_with_pattern(std::uint64_t offset, std::byte* out, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) out[i] = byte_at(offset + i);
}

inline std::shared_ptr<PageSource> pattern_source() { return function_source(fill_with_pattern); }

/// What a touch through a view sees.
inline std::byte touch(const HostView& view, std::uint64_t offset) {
  return *const_cast<const volatile std::byte*>(view.host + offset);
}

}  // namespace vm::mem::test
