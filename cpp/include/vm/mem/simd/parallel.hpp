#pragma once
/// \file
/// Copies by several threads, and past the caches.

#include <cstddef>

#include "vm/mem/simd/strategy.hpp"

namespace vm::mem::simd {

struct CopyOptions {
  /// At most so many, the calling one among them; 0: one for each processor that the caller may run on.
  unsigned threads = 1;
  /// Nobody will read the copy soon: go past the caches from `CopyPlan::stream_hint_from` on.
  bool streaming = false;
};

/// How many threads a copy of `size` bytes uses: no thread has less to do than `CopyPlan::thread_bytes`.
unsigned copy_threads(std::size_t size, const CopyOptions& options, const CopyPlan& plan) noexcept;

/// Copies `size` bytes between ranges that do not overlap, and comes back when all are there. The threads live as long
/// as the call. Where one cannot be started the others do its work. Nothing else is checked.
void copy_parallel(void* dst, const void* src, std::size_t size, const CopyOptions& options,
                   const MemcpyStrategy& strategy);

}  // namespace vm::mem::simd
