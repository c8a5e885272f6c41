#pragma once
/// \file
/// The magazines of one SlabAllocator, and the stacks of them that its threads exchange through.

#include <atomic>
#include <cstdint>
#include <memory>

#include "vm/mem/alloc/magazine.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem::alloc::detail {

/// Blocks in a full magazine of this class: about 32 KiB, so that threads do not hoard large ones, but enough of the
/// largest to be worth an exchange.
constexpr std::uint32_t magazine_blocks(unsigned size_class) noexcept {
  constexpr std::size_t hoard = 32768, least = 16;
  const std::size_t fit = hoard / block_size(size_class);
  return static_cast<std::uint32_t>(fit > magazine_cells - 1 ? magazine_cells - 1 : fit < least ? least : fit);
}

/// A row of magazines named by their index; 0 is none. They exist as long as this object, so whoever holds an index
/// that is out of date still reads a magazine. All members may be called concurrently.
class Magazines {
 public:
  /// Address space for `most` magazines. Throws ResourceExhausted.
  explicit Magazines(std::uint32_t most);

  /// One that nobody had before; 0 when there are no more.
  std::uint32_t fresh() noexcept;

  void** cells(std::uint32_t index) const noexcept { return cells_ + std::size_t{index} * magazine_cells; }
  std::atomic<std::uint32_t>& next(std::uint32_t index) const noexcept { return next_[index]; }

  /// `top` of no magazine: empty and full at once, so that both ways lead to the heap.
  void** none() const noexcept { return cells_ + magazine_cells; }
  std::uint32_t index_of(void* const* top) const noexcept {
    return static_cast<std::uint32_t>(static_cast<std::size_t>(top - 1 - cells_) / magazine_cells);
  }
  /// The blocks of a class in the magazine below `top`.
  std::uint32_t count(unsigned size_class, void* const* top) const noexcept {
    const std::uint32_t index = index_of(top);
    return index == 0 ? 0 : static_cast<std::uint32_t>(top - first(size_class, index));
  }
  /// Where a magazine has its first block. All end at the same place.
  void** first(unsigned size_class, std::uint32_t index) const noexcept {
    return cells(index) + magazine_cells - magazine_blocks(size_class);
  }
  /// Makes it an empty one of this class; returns its `top`.
  void** adopt(unsigned size_class, std::uint32_t index) const noexcept {
    void** const top = first(size_class, index);
    top[-1] = nullptr;
    return top;
  }

 private:
  std::uint32_t most_;
  std::shared_ptr<HostMapping> cell_pages_;
  std::shared_ptr<HostMapping> next_pages_;
  void** cells_;
  std::atomic<std::uint32_t>* next_;
  std::atomic<std::uint32_t> used_{1};
};

/// Magazines that wait for a thread; last in, first out. Lock-free (R. K. Treiber, "Systems Programming: Coping with
/// Parallelism", 1986); a tag in the head keeps a thread that was preempted between reading the top's successor and the
/// exchange from succeeding after others took the top away and brought it back (the tag would have to wrap, 2^28
/// operations, in that time).
class MagazineStack {
 public:
  void push(const Magazines& magazines, std::uint32_t index) noexcept;
  /// 0 when it is empty.
  std::uint32_t pop(const Magazines& magazines) noexcept;
  std::uint32_t depth() const noexcept;

 private:
  // index: 20 bits | depth: 16 bits | tag: 28 bits
  std::atomic<std::uint64_t> head_{0};
};

/// Indices fit the stack's head.
inline constexpr std::uint32_t most_magazines = std::uint32_t{1} << 20;
/// Depths do, also when 4096 threads find room at the same time and push.
inline constexpr std::uint32_t deepest_stack = (std::uint32_t{1} << 16) - 4096;

}  // namespace vm::mem::alloc::detail
