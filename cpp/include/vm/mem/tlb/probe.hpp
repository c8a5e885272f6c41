#pragma once
/// \file
/// The two steps of a set-associative probe that TLBs share: which set, and which way of it.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vm/mem/tlb/entry.hpp"
#include "vm/mem/tlb/modulo.hpp"

#if defined(__SANITIZE_THREAD__)
#define VM_TLB_WORDWISE_MATCH 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define VM_TLB_WORDWISE_MATCH 1
#endif
#endif
#if defined(__SSE2__) || defined(_M_X64)
#define VM_TLB_X86 1
#include <emmintrin.h>
#endif

#if defined(__GNUC__)
#define VM_TLB_ALWAYS_INLINE __attribute__((always_inline))
#define VM_TLB_NEVER_INLINE __attribute__((noinline))
#else
#define VM_TLB_ALWAYS_INLINE
#define VM_TLB_NEVER_INLINE
#endif

namespace vm::mem::tlb::detail {

using Word = std::atomic<std::uint64_t>;
static_assert(sizeof(Word) == 8 && Word::is_always_lock_free, "sets are arrays of plain 64-bit words");

/// Tells the processor that this thread waits for another.
inline void relax() noexcept {
#if defined(VM_TLB_X86)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline unsigned lowest_bit(std::uint64_t bits) noexcept { return static_cast<unsigned>(__builtin_ctzll(bits)); }

/// The size that most pages have: compiled in, it spares a look-up several instructions.
inline constexpr unsigned usual_size = 12;
inline constexpr std::uint64_t usual_size_bit = std::uint64_t{1} << usual_size;

/// `answers(meta, context)` of an entry that is not the first use of a prefetched one, with the usual case first.
inline bool answers_quickly(std::uint64_t meta, Context context) noexcept {
  const std::uint64_t difference = meta ^ meta_context(context);
  if ((difference & (0xFFFF'FFFF | meta_prefetched)) == 0) return true;
  return (meta & (meta_global | meta_prefetched)) == meta_global && (difference & 0xFFFF'0000) == 0;
}

/// One bit for each of the four words at `words` (aligned to 16 bytes) that equals `tag`.
///
/// With SSE2, which every x86-64 has, so that this can be inlined everywhere.
/// The vector loads are not atomic accesses in the language's sense. Where words may change meanwhile the caller reads
/// the set's sequence again afterwards, so a torn answer is never used; the signal fence keeps the compiler from moving
/// the loads past that, and x86 does not reorder loads. ThreadSanitizer gets loads that it understands.
inline unsigned match4(const Word* words, std::uint64_t tag) noexcept {
#if defined(VM_TLB_X86) && !defined(VM_TLB_WORDWISE_MATCH)
  const __m128i wanted = _mm_set1_epi64x(static_cast<long long>(tag));
  const auto* at = reinterpret_cast<const __m128i*>(words);
  const __m128i low = _mm_cmpeq_epi32(_mm_load_si128(at), wanted);
  const __m128i high = _mm_cmpeq_epi32(_mm_load_si128(at + 1), wanted);
  // Two 16-bit results per tag; a tag is equal when both are.
  const __m128i both = _mm_cmpeq_epi32(_mm_packs_epi32(low, high), _mm_set1_epi32(-1));
  std::atomic_signal_fence(std::memory_order_acq_rel);
  return static_cast<unsigned>(_mm_movemask_ps(_mm_castsi128_ps(both)));
#else
  // Acquire: what is read after the tags (the data, the sequence) is read after them.
  unsigned equal = 0;
  for (unsigned way = 0; way < 4; ++way)
    equal |= static_cast<unsigned>(words[way].load(std::memory_order_acquire) == tag) << way;
  return equal;
#endif
}

/// The same for `ways` words, a multiple of four.
inline unsigned match(const Word* words, unsigned ways, std::uint64_t tag) noexcept {
  unsigned equal = match4(words, tag);
  for (unsigned way = 4; way < ways; way += 4) equal |= match4(words + way, tag) << way;
  return equal;
}

/// Maps page numbers (below 2^52) to sets, of which there may be any number below 2^32. Any run of as many pages as
/// there are sets, aligned to its length, has a set for each page where that number is a power of two; bits of the page
/// number above `fold` reach the lower ones, so that pages a power of two apart do not meet in one set.
class SetIndex {
 public:
  explicit SetIndex(std::uint32_t sets) noexcept : sets_(sets) {}

  std::uint32_t sets() const noexcept { return sets_.divisor(); }
  bool is_power_of_two() const noexcept { return (sets() & (sets() - 1)) == 0; }

  std::uint32_t operator()(std::uint64_t page) const noexcept { return sets_(folded(page)); }
  /// The same where the number of sets is a power of two.
  std::uint32_t masked(std::uint64_t page) const noexcept {
    return static_cast<std::uint32_t>(folded(page)) & (sets() - 1);
  }

 private:
  static constexpr unsigned fold = 7;
  static std::uint64_t folded(std::uint64_t page) noexcept { return page ^ page >> fold; }

  Modulo sets_;
};

/// `hit = hit_of(entry, vaddr)`, field by field. Assigning the whole makes compilers build it in memory and copy it in
/// pieces that do not match the stores, which the processor then cannot forward.
inline void set_hit(Hit& hit, std::uint64_t frame, std::uint64_t meta, unsigned size, std::uint64_t vaddr) noexcept {
  hit.paddr = (frame & ~page_offset_mask) | (vaddr & ((std::uint64_t{1} << size) - 1));
  hit.rights = static_cast<Rights>(frame & 63);
  hit.usable = static_cast<Rights>(frame >> 6 & 63);
  hit.size_log2 = static_cast<std::uint8_t>(size);
  hit.level = static_cast<std::int8_t>(meta >> meta_level_shift & 7);
  hit.global = (meta & meta_global) != 0;
  hit.prefetched = (meta & meta_prefetched) != 0;
  hit.tlb_level = 0;
}
inline void set_hit(Hit& hit, const PackedEntry& entry, std::uint64_t vaddr) noexcept {
  set_hit(hit, entry.frame, entry.meta, size_of_tag(entry.tag), vaddr);
}

/// `hit = hit_of(entry, vaddr)` for an entry of `size` in its page, as whole words: for hits that go to an array.
inline void store_hit(Hit& hit, std::uint64_t frame, std::uint64_t meta, unsigned size, std::uint64_t vaddr) noexcept {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  static_assert(sizeof(Hit) == 24 && offsetof(Hit, rights) == 8 && offsetof(Hit, usable) == 12 &&
                offsetof(Hit, size_log2) == 16 && offsetof(Hit, level) == 17 && offsetof(Hit, global) == 18 &&
                offsetof(Hit, prefetched) == 19 && offsetof(Hit, tlb_level) == 20);
  const std::uint64_t words[3] = {(frame & ~page_offset_mask) | (vaddr & ((std::uint64_t{1} << size) - 1)),
                                  (frame & 63) | (frame & 63 << 6) << 26,
                                  size | (meta >> meta_level_shift & 7) << 8 | (meta & meta_global) >> (35 - 16) |
                                      (meta & meta_prefetched) >> (36 - 24)};
  // One by one: a copy of all is made in pieces that do not match the stores before it.
  auto* const to = reinterpret_cast<unsigned char*>(&hit);
  for (unsigned word = 0; word < 3; ++word) std::memcpy(to + 8 * word, &words[word], 8);
#else
  set_hit(hit, frame, meta, size, vaddr);
#endif
}

/// Two entries of one tag that would both answer for some context: a TLB keeps only the newer one.
constexpr bool same_page_and_context(std::uint64_t meta_a, std::uint64_t meta_b) noexcept {
  const std::uint64_t care = ((meta_a | meta_b) & meta_global) != 0 ? 0xFFFF'0000 : 0xFFFF'FFFF;
  return ((meta_a ^ meta_b) & care) == 0;
}

}  // namespace vm::mem::tlb::detail
