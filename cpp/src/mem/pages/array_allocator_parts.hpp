#pragma once
/// \file
/// What array_allocator*.cpp share: the header in front of every array, and the size classes of large ones.

#include <cstddef>
#include <cstdint>

#include "vm/mem/pages/array_allocator.hpp"

namespace vm::mem {

// From here on a mapping of its own pays: half a huge page is used at least.
inline constexpr std::uint64_t large_array = std::uint64_t{1} << 20;
inline constexpr std::uint64_t largest_array = std::uint64_t{1} << 46;

// Four size classes to a doubling, from 1 MiB on: at most a quarter is not used, and the next array of nearly the same
// size fits. `quarter_shift` makes class 0 four quarters of 1 MiB.
inline constexpr unsigned classes_per_doubling = 4;
inline constexpr unsigned quarter_shift = 18;

constexpr std::uint64_t class_capacity(unsigned size_class) noexcept {
  return std::uint64_t{classes_per_doubling + size_class % classes_per_doubling}
         << (quarter_shift + size_class / classes_per_doubling);
}

/// The first class with room for `size`.
constexpr unsigned class_of(std::uint64_t size) noexcept {
  if (size <= class_capacity(0)) return 0;
  // In units of class 0's quarters, of which it has four: below are 4 to 7 of them, doubled so often.
  const std::uint64_t below = (size - 1) >> quarter_shift;
  const unsigned doublings = 61U - static_cast<unsigned>(__builtin_clzll(below));
  return doublings * classes_per_doubling + static_cast<unsigned>(below >> doublings) - classes_per_doubling + 1;
}

/// In front of every array.
struct ArrayAllocator::Header {
  static constexpr std::uint64_t large_flag = std::uint64_t{1} << 63;

  std::uint64_t size;
  std::uint64_t place;  // bytes back to what malloc returned; or large_flag and the size class

  static Header& of(void* array) noexcept {
    return *reinterpret_cast<Header*>(static_cast<std::byte*>(array) - sizeof(Header));
  }
  bool is_large() const noexcept { return (place & large_flag) != 0; }
  std::uint64_t offset() const noexcept { return place; }
  unsigned size_class() const noexcept { return static_cast<unsigned>(place & ~large_flag); }
};

}  // namespace vm::mem
