#pragma once
/// \file
/// The loops of every instruction set with vectors of a fixed width. `V` says how one vector is loaded and stored; it
/// lives in the anonymous namespace of the file that is compiled for it, and so everything made from these templates
/// stays in that file. Nothing here may use a function that other files instantiate too, not even std::min.
///
/// Memory is handled in blocks of 64 bytes, a cache line of every processor that this is for. Sizes beyond a whole
/// number of blocks end with one that overlaps what was done before, instead of a loop over bytes.

#include <cstddef>
#include <cstdint>

#include "mem/simd/kernel_string.hpp"
#include "vm/mem/simd/strategy.hpp"

namespace vm::mem::simd::detail {

/// `count` vectors side by side, as members: compilers keep those in registers, and arrays of them in memory.
template <class V, std::size_t count>
struct Side {
  static constexpr std::size_t half = count / 2 * V::width;
  Side<V, count / 2> low, high;

  static Side load(const unsigned char* from) noexcept {
    return {Side<V, count / 2>::load(from), Side<V, count / 2>::load(from + half)};
  }
  static Side splat(unsigned char value) noexcept {
    return {Side<V, count / 2>::splat(value), Side<V, count / 2>::splat(value)};
  }
  void store(unsigned char* to) const noexcept {
    low.store(to);
    high.store(to + half);
  }
  void store_aligned(unsigned char* to) const noexcept {
    low.store_aligned(to);
    high.store_aligned(to + half);
  }
  void stream(unsigned char* to) const noexcept {
    low.stream(to);
    high.stream(to + half);
  }
};

template <class V>
struct Side<V, 1> {
  typename V::Vector vector;

  static Side load(const unsigned char* from) noexcept { return {V::load(from)}; }
  static Side splat(unsigned char value) noexcept { return {V::splat(value)}; }
  void store(unsigned char* to) const noexcept { V::store(to, vector); }
  void store_aligned(unsigned char* to) const noexcept { V::store_aligned(to, vector); }
  void stream(unsigned char* to) const noexcept { V::stream(to, vector); }
};

/// What a vector type V has:
///   width; registers (how many there are); Vector; load, store, store_aligned, stream (past the caches), splat,
///   differing (xor), either (or), zero; fence() after streaming stores; prefetch(); copy_block(to, from, n),
///   fill_block(to, value, n) for n <= 64; mismatch_block(a, b): first byte of 64 that differs, or 64;
///   mismatch_short(a, b, n) for n < 64, n if none does.
template <class V>
struct Loops {
  using Byte = unsigned char;
  using Vector = typename V::Vector;
  static constexpr std::size_t block_bytes = 64;
  static constexpr std::size_t blocks = 4;  // in one step of a loop
  static constexpr std::size_t step = blocks * block_bytes;
  static_assert(step == small_copy);
  using Block = Side<V, block_bytes / V::width>;
  using Step = Side<V, step / V::width>;

  static Block load(const Byte* from) noexcept { return Block::load(from); }
  static void store(Byte* to, const Block& block) noexcept { block.store(to); }

  // The condition itself: a choice between 1 and 0 would make GCC forget the hint.
  static bool likely(bool condition) noexcept { return __builtin_expect(condition, true) != 0; }
  static bool unlikely(bool condition) noexcept { return __builtin_expect(condition, false) != 0; }

  /// 128 < n <= 256: two blocks from either end.
  static void copy_four(Byte* to, const Byte* from, std::size_t n) noexcept {
    const Block a = load(from), b = load(from + block_bytes);
    const Block c = load(from + n - 2 * block_bytes), d = load(from + n - block_bytes);
    store(to, a);
    store(to + block_bytes, b);
    store(to + n - 2 * block_bytes, c);
    store(to + n - block_bytes, d);
  }

  /// Bytes from `to` to the next block boundary, 1 to 64.
  static std::size_t to_boundary(const Byte* to) noexcept {
    return block_bytes - (reinterpret_cast<std::uintptr_t>(to) & (block_bytes - 1));
  }

  /// 64 <= n <= 128.
  static void copy_two(Byte* to, const Byte* from, std::size_t n) noexcept {
    const Block a = load(from), b = load(from + n - block_bytes);
    store(to, a);
    store(to + n - block_bytes, b);
  }

  static void copy_step_aligned(Byte* to, const Byte* from) noexcept { Step::load(from).store_aligned(to); }

  // All that follow: n > 256.

  /// Sizes for which there are registers enough to load all of it: half from either end, without a loop.
  static constexpr std::size_t straight = V::registers * V::width < 1024 ? V::registers * V::width : 1024;

  static void copy_straight(Byte* to, const Byte* from, std::size_t n) noexcept {
    using Pair = Side<V, 2 * block_bytes / V::width>;
    const Byte* const from_end = from + n;
    Byte* const to_end = to + n;
    if (n <= 512) {
      const Step low = Step::load(from), high = Step::load(from_end - 256);
      low.store(to);
      high.store(to_end - 256);
    } else if (n <= 768) {
      const Step low = Step::load(from), high = Step::load(from_end - 256);
      const Pair low_end = Pair::load(from + 256), high_end = Pair::load(from_end - 384);
      low.store(to);
      low_end.store(to + 256);
      high_end.store(to_end - 384);
      high.store(to_end - 256);
    } else {
      const Step low = Step::load(from), low_end = Step::load(from + 256);
      const Step high_end = Step::load(from_end - 512), high = Step::load(from_end - 256);
      low.store(to);
      low_end.store(to + 256);
      high_end.store(to_end - 512);
      high.store(to_end - 256);
    }
  }

  static void copy_vector(Byte* to, const Byte* from, std::size_t n) noexcept {
    if (straight > small_copy && n <= straight) return copy_straight(to, from, n);
    const std::size_t head = to_boundary(to);
    store(to, load(from));
    to += head;
    from += head;
    // From here to the last block. It is negative when less than a block is left: that one then begins before `to`.
    auto last = static_cast<std::ptrdiff_t>(n - head) - static_cast<std::ptrdiff_t>(block_bytes);
    for (; last > static_cast<std::ptrdiff_t>(step - block_bytes); last -= static_cast<std::ptrdiff_t>(step)) {
      copy_step_aligned(to, from);
      to += step;
      from += step;
    }
    // Four blocks at most are left. All are copied, the ones too many on top of the last.
    constexpr std::ptrdiff_t one = block_bytes, two = 2 * one;
    const std::ptrdiff_t first = last < 0 ? last : 0, second = last < one ? last : one, third = last < two ? last : two;
    const Block a = load(from + first), b = load(from + second), c = load(from + third), d = load(from + last);
    store(to + first, a);
    store(to + second, b);
    store(to + third, c);
    store(to + last, d);
  }

  static void copy_stream(Byte* to, const Byte* from, std::size_t n, std::size_t ahead) noexcept {
    Byte* const last_to = to + n - step;
    const Byte* const last_from = from + n - step;
    const std::size_t head = to_boundary(to);
    store(to, load(from));
    to += head;
    from += head;
    for (; to < last_to; to += step, from += step) {
      if (ahead != 0)
        for (std::size_t i = 0; i < blocks; ++i) V::prefetch(from + ahead + i * block_bytes);
      Step::load(from).stream(to);
    }
    V::fence();
    Step::load(last_from).store(last_to);
  }

  static void copy_string(Byte* to, const Byte* from, std::size_t n) noexcept {
    const std::size_t head = to_boundary(to);
    store(to, load(from));
    string_copy<V>(to + head, from + head, n - head);
  }

  static void copy_large(Byte* to, const Byte* from, std::size_t n, const CopyPlan& plan) noexcept {
    if (n >= plan.stream_from) return copy_stream(to, from, n, plan.prefetch_distance);
    if (n >= plan.string_from) return copy_string(to, from, n);
    copy_vector(to, from, n);
  }

  [[gnu::aligned(64)]] static void copy(void* dst, const void* src, std::size_t n, const CopyPlan& plan) noexcept {
    auto* to = static_cast<Byte*>(dst);
    const auto* from = static_cast<const Byte*>(src);
    // Most copies are of less than a block (bench/data/memcpy_sizes.csv): written so that compilers let them fall
    // through to the end, within the first cache line of the code.
    if (unlikely(n >= block_bytes)) {
      if (likely(n <= 2 * block_bytes)) return copy_two(to, from, n);
      if (n <= small_copy) return copy_four(to, from, n);
      return copy_large(to, from, n, plan);
    }
    V::copy_block(to, from, n);
  }

  static void copy_streaming(void* dst, const void* src, std::size_t n, const CopyPlan& plan) noexcept {
    if (n <= small_copy) return copy(dst, src, n, plan);
    copy_stream(static_cast<Byte*>(dst), static_cast<const Byte*>(src), n, plan.prefetch_distance);
  }

  /// Overlapping, `to` below `from`: the ends are loaded before anything is stored, and each step loads before it
  /// stores below what later steps load.
  static void move_up(Byte* to, const Byte* from, std::size_t n) noexcept {
    const Block head = load(from);
    const Step tail = Step::load(from + n - step);
    Byte* const last_to = to + n - step;
    const std::size_t skip = to_boundary(to);
    const Byte* next = from + skip;
    for (Byte* at = to + skip; at < last_to; at += step, next += step) copy_step_aligned(at, next);
    tail.store(last_to);
    store(to, head);
  }

  /// Overlapping, `to` above `from`: the same from the other end.
  static void move_down(Byte* to, const Byte* from, std::size_t n) noexcept {
    const Block tail = load(from + n - block_bytes);
    const Step head = Step::load(from);
    const std::size_t skip = reinterpret_cast<std::uintptr_t>(to + n) & (block_bytes - 1);
    Byte* at = to + n - skip;
    const Byte* next = from + n - skip;
    while (at > to + step) {
      at -= step;
      next -= step;
      copy_step_aligned(at, next);
    }
    head.store(to);
    store(to + n - block_bytes, tail);
  }

  static void move(void* dst, const void* src, std::size_t n, const CopyPlan& plan) noexcept {
    auto* to = static_cast<Byte*>(dst);
    const auto* from = static_cast<const Byte*>(src);
    if (likely(n < block_bytes)) return V::copy_block(to, from, n);
    if (likely(n <= 2 * block_bytes)) return copy_two(to, from, n);
    if (n <= small_copy) return copy_four(to, from, n);
    const std::uintptr_t above = reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from);
    if (above >= n && std::uintptr_t{0} - above >= n) return copy_large(to, from, n, plan);
    if (above >= n) return move_up(to, from, n);
    if (above != 0) move_down(to, from, n);
  }

  static void fill(void* dst, unsigned char value, std::size_t n, const CopyPlan& plan) noexcept {
    auto* to = static_cast<Byte*>(dst);
    if (n <= block_bytes) return V::fill_block(to, value, n);
    const Block block = Block::splat(value);
    Byte* const end = to + n;
    store(to, block);
    store(end - block_bytes, block);
    if (n <= 2 * block_bytes) return;
    if (n <= small_copy) {
      store(to + block_bytes, block);
      store(end - 2 * block_bytes, block);
      return;
    }
    const Step all = Step::splat(value);
    to += to_boundary(to);
    if (n >= plan.fill_stream_from) {
      for (; to < end - step; to += step) all.stream(to);
      V::fence();
    } else if (n >= plan.fill_string_from) {
      return string_fill<V>(to, value, static_cast<std::size_t>(end - to));
    } else {
      for (; to < end - step; to += step) all.store_aligned(to);
    }
    all.store(end - step);
  }

  /// Whether 256 bytes are equal.
  static bool equal_step(const Byte* a, const Byte* b) noexcept {
    Vector any = V::differing(V::load(a), V::load(b));
    for (std::size_t at = V::width; at < step; at += V::width)
      any = V::either(any, V::differing(V::load(a + at), V::load(b + at)));
    return V::zero(any);
  }

  static std::size_t mismatch(const void* left, const void* right, std::size_t n) noexcept {
    const auto* a = static_cast<const Byte*>(left);
    const auto* b = static_cast<const Byte*>(right);
    if (n < block_bytes) return V::mismatch_short(a, b, n);
    std::size_t at = 0;
    while (n - at >= step && equal_step(a + at, b + at)) at += step;
    for (; n - at >= block_bytes; at += block_bytes) {
      const std::size_t found = V::mismatch_block(a + at, b + at);
      if (found != block_bytes) return at + found;
    }
    if (at == n) return n;
    at = n - block_bytes;
    return at + V::mismatch_block(a + at, b + at);
  }

  static constexpr Kernels kernels{copy, copy_streaming, move, fill, mismatch};
};

}  // namespace vm::mem::simd::detail
