#pragma once
/// \file
/// How one machine copies and fills memory of each size: with which instructions, and from which size on another way is
/// the better one. A plan is numbers that can be looked at and changed; `MemcpyStrategy` carries it out.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "vm/core/cpu_features.hpp"

namespace vm::mem::simd {

/// Whose loads and stores a kernel uses. `scalar` is 64-bit words, and is there on every processor.
enum class InstructionSet : std::uint8_t { scalar, sse2, avx, avx2, avx512, neon, sve };
inline constexpr std::size_t instruction_set_count = 7;

/// "avx512": the enumerator as text.
std::string_view name(InstructionSet set) noexcept;
/// The inverse of `name`; nothing for a name that is not there.
std::optional<InstructionSet> find_instruction_set(std::string_view name) noexcept;

/// Empty when the kernels of `set` are in this build and `features` has what they need, else the reason why not.
std::string why_not(InstructionSet set, const CpuFeatures& features);

/// The ways to copy.
enum class Method : std::uint8_t {
  small,   ///< loads all of it, then stores all of it; no loop
  vector,  ///< a loop of stores to aligned addresses
  string,  ///< the processor's own copy instruction, rep movsb
  stream,  ///< stores past the caches, with the source prefetched
};
/// "small", "vector", "string", "stream".
std::string_view name(Method method) noexcept;

/// Copies up to this size take the method `small`, whatever the plan.
inline constexpr std::size_t small_copy = 256;

struct CopyPlan {
  /// A threshold that no size reaches.
  static constexpr std::size_t never = std::numeric_limits<std::size_t>::max();

  InstructionSet instruction_set = InstructionSet::scalar;
  std::size_t string_from = never;       ///< copies of so many bytes and more: rep movsb
  std::size_t stream_from = never;       ///< copies of so many bytes and more: past the caches; wins over `string_from`
  std::size_t stream_hint_from = never;  ///< the same for copies whose caller asks for it
  std::size_t prefetch_distance = 0;     ///< streaming copies prefetch the source so many bytes ahead; 0: not at all
  std::size_t fill_string_from = never;  ///< fills of so many bytes and more: rep stosb
  std::size_t fill_stream_from = never;  ///< fills of so many bytes and more: past the caches; wins over the string
  std::size_t thread_bytes = never;      ///< copies by several threads give each of them at least so much

  /// The plan for a described processor: a pure function of its features and cache sizes. Caches of unknown size
  /// (`cache_bytes` is 0) switch the methods off that need to know them.
  static CopyPlan for_machine(const CpuFeatures& features);
  /// The plan for this machine. Costs about a millisecond; \throws what CpuFeatures::detect throws.
  static CopyPlan detect();

  /// The way in which a copy of `size` bytes is done; `hint` for callers who ask for streaming.
  Method method(std::size_t size, bool hint = false) const noexcept;

  friend bool operator==(const CopyPlan& a, const CopyPlan& b) {
    return a.instruction_set == b.instruction_set && a.string_from == b.string_from && a.stream_from == b.stream_from &&
           a.stream_hint_from == b.stream_hint_from && a.prefetch_distance == b.prefetch_distance &&
           a.fill_string_from == b.fill_string_from && a.fill_stream_from == b.fill_stream_from &&
           a.thread_bytes == b.thread_bytes;
  }
  friend bool operator!=(const CopyPlan& a, const CopyPlan& b) { return !(a == b); }
};

}  // namespace vm::mem::simd
