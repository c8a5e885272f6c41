#pragma once
/// \file
/// The cache of last-level tables that a batch keeps, and the kernels that answer from it. Each kernel answers what the
/// cache can answer and lists the rest, which the driver (batch.hpp) walks.

#include <cstddef>
#include <cstdint>

#include "vm/mem/paging/leaf.hpp"
#include "vm/mem/paging/translation.hpp"

namespace vm::mem::paging {

/// A slot says what is known about one span, the range of addresses that one last-level table covers: 0 for nothing,
/// else either a last-level table (bit 63 clear: bits 0..47 its host address, 48..62 the allowances of the levels
/// above) or one answer for the whole span (bit 63 set: bits 0..15 `PackedInfo`, above the span's own bits the physical
/// address), which is a block or a fault of a higher level.
using LeafSlot = std::uint64_t;

inline constexpr unsigned slot_host_bits = 48;
inline constexpr std::uint64_t slot_host_mask = (std::uint64_t{1} << slot_host_bits) - 1;
inline constexpr std::uint64_t slot_uniform = std::uint64_t{1} << 63;

/// Spans are numbered by their addresses: vaddr >> span bits. Where a batch stays in one range of spans, slot n stands
/// for span `first_span + n` and there are no tags; else slots are shared by all spans with the same low bits.
struct LeafCacheView {
  const LeafSlot* slots;
  const std::uint64_t* tags;  ///< of each slot: its span; nullptr when the slots stand for one range
  std::uint64_t first_span;   ///< 0 with tags
  std::uint64_t slot_mask;    ///< number of slots - 1; a power of two less one
};
/// A tag that is no span.
inline constexpr std::uint64_t no_span = UINT64_MAX;

struct LeafKernelCall {
  LeafCacheView cache;
  LeafFilter filter;
  const std::uint64_t* vaddr;
  std::size_t count;
  std::uint64_t* paddr;
  PackedInfo* info;
  std::uint32_t* missed;  ///< room for `count` indices
  bool prefetch;          ///< the tables do not fit the cache: fetch a group's entries before using them
};

/// Elements whose entries are prefetched together. Enough to keep every line-fill buffer busy, few enough for the lines
/// to be still in L1 when they are used.
inline constexpr std::size_t prefetch_group = 64;

/// Returns how many indices were written to `missed`.
using LeafKernel = std::size_t (*)(const LeafKernelCall&);

/// Which instantiation: formats that share Leaf arithmetic and geometry share a kernel. All have 8-byte entries.
enum class LeafShape : std::uint8_t { x86, riscv, aarch64_4k, aarch64_16k, aarch64_64k };

/// nullptr when this build has no such kernel. The caller checks that the processor has the instructions.
LeafKernel avx2_leaf_kernel(LeafShape shape) noexcept;
LeafKernel avx512_leaf_kernel(LeafShape shape) noexcept;

}  // namespace vm::mem::paging
