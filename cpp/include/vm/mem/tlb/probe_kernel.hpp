#pragma once
/// \file
/// Many look-ups in the sets of a ShardedTlb at once: where the sets are is said once, counts are made once, and
/// the instruction set is the best one that the processor has.

#include <cstddef>
#include <cstdint>

#include "vm/mem/tlb/probe.hpp"

namespace vm::mem::tlb::detail {

/// A set of a ShardedTlb is so many words of its own (the sequence first), then a tag, a frame and a meta of each way.
inline constexpr std::size_t set_header_words = 4;
/// From one set of four ways to the next.
inline constexpr std::size_t usual_set_words = 16;

/// The sets, and what is asked of them.
struct ProbeCall {
  const Word* words;
  std::size_t set_words;  ///< from one set to the next
  SetIndex index;
  unsigned stride;      ///< ways of a set, up to a multiple of four
  std::uint64_t sizes;  ///< log2 of the page sizes to look for, one bit each
  Context context;
  const std::uint64_t* vaddr;
  std::size_t count;
  Hit* hit;     ///< written where found; room for `count`
  bool* found;  ///< room for `count`
};

/// The look-ups before number `done` are answered, `hits` of them with a hit. When that is not all of them, number
/// `done` needs patience: a writer is in its way, or it is the first use of a prefetched entry.
struct ProbeProgress {
  std::size_t done;
  std::size_t hits;
};

using ProbeKernel = ProbeProgress (*)(const ProbeCall&) noexcept;

/// For every processor; under ThreadSanitizer the only one, with loads that it understands.
ProbeProgress baseline_probe_kernel(const ProbeCall& call) noexcept;
/// nullptr when this build has no such kernel. The caller checks that the processor has the instructions.
ProbeKernel avx2_probe_kernel() noexcept;
/// The fastest one that this build has and this processor can run.
ProbeKernel best_probe_kernel();

}  // namespace vm::mem::tlb::detail
