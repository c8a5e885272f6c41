#include "mem/alloc/magazines.hpp"

#include <new>

namespace vm::mem::alloc::detail {

namespace {

constexpr unsigned depth_shift = 20;
constexpr unsigned tag_shift = 36;
constexpr std::uint64_t index_mask = (std::uint64_t{1} << depth_shift) - 1;
constexpr std::uint64_t depth_mask = (std::uint64_t{1} << (tag_shift - depth_shift)) - 1;

std::uint64_t pack(std::uint64_t index, std::uint64_t depth, std::uint64_t tag) noexcept {
  return index | (depth & depth_mask) << depth_shift | tag << tag_shift;  // the tag loses what is above its 28 bits
}

}  // namespace

Magazines::Magazines(std::uint32_t most)
    : most_(most),
      // The end of the last one is an address of `none`'s kind, and must not be taken for it.
      cell_pages_(HostMapping::anonymous((std::uint64_t{most} + 1) * magazine_bytes, HugePages::none)),
      next_pages_(HostMapping::anonymous(std::uint64_t{most} * sizeof(std::atomic<std::uint32_t>), HugePages::none)),
      cells_(reinterpret_cast<void**>(cell_pages_->data())),
      next_(reinterpret_cast<std::atomic<std::uint32_t>*>(next_pages_->data())) {}

std::uint32_t Magazines::fresh() noexcept {
  std::uint32_t index = used_.load(std::memory_order_relaxed);
  // Relaxed: an index is nobody else's business until it is pushed.
  while (index < most_) {
    if (used_.compare_exchange_weak(index, index + 1, std::memory_order_relaxed)) {
      ::new (next_ + index) std::atomic<std::uint32_t>(0);
      return index;
    }
  }
  return 0;
}

void MagazineStack::push(const Magazines& magazines, std::uint32_t index) noexcept {
  std::uint64_t head = head_.load(std::memory_order_relaxed);
  std::uint64_t wanted = 0;
  do {
    magazines.next(index).store(static_cast<std::uint32_t>(head & index_mask), std::memory_order_relaxed);
    wanted = pack(index, (head >> depth_shift & depth_mask) + 1, (head >> tag_shift) + 1);
    // Release: pairs with the acquire in pop, for the cells, the blocks' bytes and `next`.
  } while (!head_.compare_exchange_weak(head, wanted, std::memory_order_release, std::memory_order_relaxed));
}

std::uint32_t MagazineStack::pop(const Magazines& magazines) noexcept {
  std::uint64_t head = head_.load(std::memory_order_acquire);
  while ((head & index_mask) != 0) {
    const auto index = static_cast<std::uint32_t>(head & index_mask);
    // May be out of date when another thread was faster; then the tag has changed, and the exchange fails.
    const std::uint32_t next = magazines.next(index).load(std::memory_order_relaxed);
    const std::uint64_t wanted = pack(next, (head >> depth_shift & depth_mask) - 1, (head >> tag_shift) + 1);
    // Acquire: pairs with the release of every push before, because all changes of the head are read-modify-write and
    // so continue the release sequence of each.
    if (head_.compare_exchange_weak(head, wanted, std::memory_order_acquire, std::memory_order_acquire)) return index;
  }
  return 0;
}

std::uint32_t MagazineStack::depth() const noexcept {
  return static_cast<std::uint32_t>(head_.load(std::memory_order_relaxed) >> depth_shift & depth_mask);
}

}  // namespace vm::mem::alloc::detail
