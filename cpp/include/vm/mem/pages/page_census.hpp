#pragma once
/// \file
/// What the kernel really put behind a range of this process's memory. Asked for, never concluded from what was wanted.

#include <cstdint>
#include <optional>

namespace vm::mem {

/// In bytes, counted over whole pages of the host.
struct PageCensus {
  std::uint64_t mapped = 0;     ///< belongs to some mapping
  std::uint64_t resident = 0;   ///< in memory and mapped here; the kernel's shared page of zeros is not
  std::uint64_t huge = 0;       ///< of these, in pages that the processor maps as huge ones
  bool huge_known = true;       ///< false: before Linux 6.7, where `huge` counts only what is certain
  std::uint64_t locked = 0;     ///< in mappings that mlock(2) or mlock2(2) locked
  std::uint64_t page_size = 0;  ///< of the mappings: larger than an ordinary page for reserved ones; 0 when they differ
};

/// Counts the pages that [address, address + size) touches. Reads /proc/self/smaps up to there, which takes time in a
/// process with many mappings. Pages that come or go meanwhile are counted or not. Any thread. Throws PlatformError.
PageCensus count_pages(const void* address, std::uint64_t size);

}  // namespace vm::mem
