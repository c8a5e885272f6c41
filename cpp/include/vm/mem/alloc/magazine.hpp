#pragma once
/// \file
/// What a thread has of a SlabAllocator at hand: magazines of free blocks (Bonwick & Adams, "Magazines and Vmem",
/// USENIX 2001). The invariant: a magazine is an aligned run of cells; `top` points one beyond its last block, and
/// below its first block lies null. So what lies below `top` tells that it is empty, and the address in `top` that it
/// is full. The lists lie outside of the blocks: nothing that is written into a freed block can lead the allocator
/// astray.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "vm/mem/alloc/size_classes.hpp"

namespace vm::mem::alloc::detail {

/// 511 blocks and the null below them: few enough bytes to stay in the first-level cache, and so many blocks that the
/// hand-over from thread to thread, about 100 ns, is a fraction of a nanosecond for each.
inline constexpr std::size_t magazine_cells = 512;
inline constexpr std::size_t magazine_bytes = magazine_cells * sizeof(void*);

class SlabHeap;

/// What one thread has at hand of each class. When it goes, its blocks return to the heap.
class alignas(64) ThreadStocks {
 public:
  explicit ThreadStocks(SlabHeap& heap) noexcept;
  ThreadStocks(const ThreadStocks&) = delete;
  ThreadStocks& operator=(const ThreadStocks&) = delete;
  ~ThreadStocks();

  /// nullptr when the magazine is empty, or there is none.
  void* pop(unsigned size_class) noexcept {
    void** const top = loaded[size_class].load(std::memory_order_relaxed);
    void* const block = top[-1];
    if (block != nullptr) loaded[size_class].store(top - 1, std::memory_order_relaxed);
    return block;
  }
  /// False when the magazine is full, or there is none.
  bool push(unsigned size_class, void* block) noexcept {
    void** const top = loaded[size_class].load(std::memory_order_relaxed);
    if (reinterpret_cast<std::uintptr_t>(top) % magazine_bytes == 0) return false;
    *top = block;
    loaded[size_class].store(top + 1, std::memory_order_relaxed);
    return true;
  }

  // Written by their thread only, and read by others for statistics; relaxed, because a count publishes nothing.
  std::array<std::atomic<void**>, class_count> loaded;  // the `top` of the magazine in use
  // The `top` of another one, so that a thread at a boundary does not exchange magazines at each call.
  std::array<std::atomic<void**>, class_count> spare;
  std::atomic<std::uint64_t> exchanges{0};  // magazines that went to the depot or came from it

 private:
  SlabHeap* heap_;
};

}  // namespace vm::mem::alloc::detail
