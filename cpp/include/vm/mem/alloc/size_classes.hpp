#pragma once
/// \file
/// The sizes that blocks of a SlabAllocator have: multiples of 16 up to 128 bytes, then four to each doubling, so that
/// a block is at most a quarter larger than what was asked for (beyond 64 bytes). All of it folds for constant
/// arguments.

#include <array>
#include <cstddef>
#include <cstdint>

namespace vm::mem::alloc {

/// What malloc guarantees on 64-bit machines, and the least distance of two block sizes.
inline constexpr std::size_t least_alignment = 16;
inline constexpr std::size_t smallest_block = 16;
inline constexpr std::size_t largest_block = 8192;
inline constexpr unsigned class_count = 32;

namespace detail {

/// class_of for sizes above 128 bytes: four classes to each doubling.
constexpr unsigned large_class_of(std::size_t size) noexcept {
  const auto last = static_cast<unsigned>(size - 1);
  const unsigned log2 = 31U - static_cast<unsigned>(__builtin_clz(last));  // size is in (2^log2, 2^(log2 + 1)]
  return 8U + (log2 - 7U) * 4U + ((last >> (log2 - 2U)) & 3U);
}

/// Sizes up to here are looked up: programs mix them, and no branch predictor follows that.
inline constexpr std::size_t largest_looked_up = 1024;

/// By size in units of 16 bytes, rounded up.
inline constexpr auto small_classes = [] {
  std::array<std::uint8_t, largest_looked_up / smallest_block + 1> classes{};
  for (std::size_t i = 1; i < classes.size(); ++i) {
    classes[i] = static_cast<std::uint8_t>(i <= 8 ? i - 1 : large_class_of(i * smallest_block));
  }
  return classes;
}();

}  // namespace detail

/// The class of the smallest block that holds `size` bytes, which are at most `largest_block`. 0 is taken for 1.
constexpr unsigned class_of(std::size_t size) noexcept {
  if (size <= detail::largest_looked_up) return detail::small_classes[(size + smallest_block - 1) / smallest_block];
  return detail::large_class_of(size);
}

constexpr std::size_t block_size(unsigned size_class) noexcept {
  if (size_class < 8) return std::size_t{16} * (size_class + 1);
  return std::size_t{32 * (5 + (size_class - 8) % 4)} << ((size_class - 8) / 4);
}

/// Slabs begin on pages, so this is the largest alignment that block sizes can promise.
inline constexpr std::size_t largest_alignment = 4096;

constexpr bool is_alignment(std::size_t alignment) noexcept {
  return alignment - 1 < largest_alignment && (alignment & (alignment - 1)) == 0;
}

/// The class of the smallest block that holds `size` bytes and whose size is a multiple of `alignment`, a power of two
/// up to 4096: then all its blocks are aligned like that. class_count when there is none.
constexpr unsigned class_of(std::size_t size, std::size_t alignment) noexcept {
  const std::size_t padded = (size + alignment - 1) & ~(alignment - 1);
  if (padded > largest_block || padded < size) return class_count;
  unsigned size_class = class_of(padded);
  if (alignment <= least_alignment) return size_class;
  while (size_class < class_count && block_size(size_class) % alignment != 0) ++size_class;
  return size_class;
}

}  // namespace vm::mem::alloc
