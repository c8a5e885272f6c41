#pragma once
/// \file
/// Is a page all zeros?

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vm::accel {

inline bool is_zero(const std::byte* bytes, std::uint64_t size) noexcept {
  // Comparing the bytes with themselves moved by one: all equal the first.
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

}  // namespace vm::accel
