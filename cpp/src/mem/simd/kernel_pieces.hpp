#pragma once
/// \file
/// Memory of less than a block for instruction sets without masks. As in kernel_loops.hpp, everything here is a
/// template of a type of the file that uses it.

#include <cstddef>
#include <cstdint>

namespace vm::mem::simd::detail {

/// Blocks of less than 64 bytes for instruction sets without masks: at most four pieces that overlap, of 16 bytes (T
/// says how) or of a word.
template <class T>
struct Pieces {
  using Byte = unsigned char;

  template <class Word>
  static Word get(const Byte* from) noexcept {
    Word word;
    __builtin_memcpy(&word, from, sizeof word);
    return word;
  }
  template <class Word>
  static void put(Byte* to, Word word) noexcept {
    __builtin_memcpy(to, &word, sizeof word);
  }
  template <class Word>
  static void copy_two(Byte* to, const Byte* from, std::size_t n) noexcept {
    const Word first = get<Word>(from), last = get<Word>(from + n - sizeof(Word));
    put(to, first);
    put(to + n - sizeof(Word), last);
  }

  static void copy_block(Byte* to, const Byte* from, std::size_t n) noexcept {
    if (n > 16) {
      const std::size_t last = n - 16;
      const std::size_t second = last < 16 ? last : 16;
      const std::size_t third = last - second;
      const auto a = T::load16(from), b = T::load16(from + second), c = T::load16(from + third),
                 d = T::load16(from + last);
      T::store16(to, a);
      T::store16(to + second, b);
      T::store16(to + third, c);
      T::store16(to + last, d);
    } else if (n >= 8) {
      copy_two<std::uint64_t>(to, from, n);
    } else if (n >= 4) {
      copy_two<std::uint32_t>(to, from, n);
    } else if (n != 0) {
      const Byte first = from[0], middle = from[n / 2], last = from[n - 1];
      to[0] = first;
      to[n / 2] = middle;
      to[n - 1] = last;
    }
  }

  static void fill_block(Byte* to, unsigned char value, std::size_t n) noexcept {
    const std::uint64_t word = 0x0101010101010101U * value;
    if (n > 16) {
      const std::size_t last = n - 16;
      const std::size_t second = last < 16 ? last : 16;
      const auto all = T::splat16(value);
      T::store16(to, all);
      T::store16(to + second, all);
      T::store16(to + last - second, all);
      T::store16(to + last, all);
    } else if (n >= 8) {
      put(to, word);
      put(to + n - 8, word);
    } else if (n >= 4) {
      put(to, static_cast<std::uint32_t>(word));
      put(to + n - 4, static_cast<std::uint32_t>(word));
    } else if (n != 0) {
      to[0] = to[n / 2] = to[n - 1] = value;
    }
  }

  static std::size_t first_byte(std::uint64_t difference) noexcept {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return static_cast<unsigned>(__builtin_clzll(difference)) / 8;
#else
    return static_cast<unsigned>(__builtin_ctzll(difference)) / 8;
#endif
  }

  static std::size_t mismatch_short(const Byte* a, const Byte* b, std::size_t n) noexcept {
    if (n < 8) {
      for (std::size_t at = 0; at < n; ++at)
        if (a[at] != b[at]) return at;
      return n;
    }
    for (std::size_t at = 0;; at = at + 16 <= n ? at + 8 : n - 8) {
      const std::uint64_t difference = get<std::uint64_t>(a + at) ^ get<std::uint64_t>(b + at);
      if (difference != 0) return at + first_byte(difference);
      if (at == n - 8) return n;
    }
  }
};

}  // namespace vm::mem::simd::detail
