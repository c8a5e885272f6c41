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

/// 255 blocks and the null below them: few enough bytes to stay in the first-level cache, and so many blocks that the
/// hand-over from thread to thread, about 100 ns, is a fraction of a nanosecond for each.
inline constexpr std::size_t magazine_cells = 256;
inline constexpr std::size_t magazine_bytes = magazine_cells * sizeof(void*);

class SlabHeap;

/// Blocks of one class that a thread has at hand.
struct Stock {
  // Written by their thread only, and read by others for statistics; relaxed, because a count publishes nothing.
  std::atomic<void**> loaded;  // the `top` of the magazine in use
  std::atomic<void**> spare;   // the `top` of another one, so that a thread at a boundary does not exchange each time

  /// nullptr when the magazine is empty, or there is none.
  void* pop() noexcept {
    void** const top = loaded.load(std::memory_order_relaxed);
    void* const block = top[-1];
    if (block != nullptr) loaded.store(top - 1, std::memory_order_relaxed);
    return block;
  }
  /// False when the magazine is full, or there is none.
  bool push(void* block) noexcept {
    void** const top = loaded.load(std::memory_order_relaxed);
    if (reinterpret_cast<std::uintptr_t>(top) % magazine_bytes == 0) return false;
    *top = block;
    loaded.store(top + 1, std::memory_order_relaxed);
    return true;
  }
};

/// One thread's stocks. When it goes, its blocks return to the heap.
class alignas(64) ThreadStocks {
 public:
  explicit ThreadStocks(SlabHeap& heap) noexcept;
  ThreadStocks(const ThreadStocks&) = delete;
  ThreadStocks& operator=(const ThreadStocks&) = delete;
  ~ThreadStocks();

  Stock& operator[](unsigned size_class) noexcept { return stocks_[size_class]; }
  const Stock& operator[](unsigned size_class) const noexcept { return stocks_[size_class]; }
  /// Magazines that went from here to the heap or came from it.
  std::uint64_t exchanges() const noexcept { return exchanges_.load(std::memory_order_relaxed); }
  /// Its thread only.
  void count_exchange() noexcept { exchanges_.store(exchanges() + 1, std::memory_order_relaxed); }

 private:
  std::array<Stock, class_count> stocks_;
  std::atomic<std::uint64_t> exchanges_{0};
  SlabHeap* heap_;
};

}  // namespace vm::mem::alloc::detail
