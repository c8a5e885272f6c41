#pragma once
/// \file
/// The look-ups of a BatchLevel: one kernel for each instruction set.

#include <cstddef>
#include <cstdint>

namespace vm::mem::tlb::detail {

/// page    the page's number, or `no_page`
/// answer  bits 0..15 what its owner wants to know with the address, 16..19 votes, 20..63 the frame's number
struct alignas(16) BatchEntry {
  std::uint64_t page;
  std::uint64_t answer;
};
inline constexpr std::uint64_t no_page = UINT64_MAX;
inline constexpr unsigned batch_votes_shift = 16;
inline constexpr unsigned batch_frame_shift = 20;
/// Bits of the page number above this reach the lower ones, so that pages a power of two apart do not meet in one
/// entry.
inline constexpr unsigned batch_fold = 7;

struct BatchProbeCall {
  const BatchEntry* entries;
  std::uint64_t mask;   ///< entries - 1; a power of two less one
  unsigned page_shift;  ///< log2 of the bytes of a page
  const std::uint64_t* vaddr;
  std::size_t count;
  std::uint64_t* paddr;
  std::uint16_t* facts;
  std::uint32_t* missed;        ///< room for `count` and `batch_probe_slack` more
  std::uint64_t* missed_vaddr;  ///< likewise
  std::uint32_t first;          ///< index of the first element in `missed`
};
inline constexpr std::size_t batch_probe_slack = 8;

/// Answers what is there and lists the rest, in order. Of elements that are not there, `paddr` and `facts` are
/// unspecified. Returns how many are not.
using BatchProbe = std::size_t (*)(const BatchProbeCall&) noexcept;

constexpr std::uint64_t batch_place(std::uint64_t page, std::uint64_t mask) noexcept {
  return (page ^ page >> batch_fold) & mask;
}

/// For every processor.
std::size_t baseline_batch_probe(const BatchProbeCall& call) noexcept;
/// nullptr when this build has no such kernel. The caller checks that the processor has the instructions.
BatchProbe avx2_batch_probe() noexcept;
BatchProbe avx512_batch_probe() noexcept;
/// The fastest one that this build has and this processor can run.
BatchProbe best_batch_probe();

}  // namespace vm::mem::tlb::detail
