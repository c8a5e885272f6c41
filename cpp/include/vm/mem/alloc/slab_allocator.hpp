#pragma once
/// \file
/// Blocks of up to 8 KiB for many threads at once, each of which has a stock of its own (magazines), so that what is
/// inlined here takes no lock and meets no other thread.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "vm/core/per_thread.hpp"
#include "vm/mem/alloc/magazine.hpp"
#include "vm/mem/alloc/size_classes.hpp"
#include "vm/mem/alloc/slab_config.hpp"

namespace vm::mem::alloc {

namespace detail {
class ForkGuard;
}

/// All members may be called concurrently with each other, except the destructor. A block may be freed by any thread;
/// it then waits in that thread's magazine, and 511 of them (fewer of large blocks) return in one step.
///
/// - A block is aligned to 16 bytes, and one whose size is a power of two up to 4096 to its size.
/// - A thread that ends gives its magazines back.
/// - After fork() the child may go on with its copy; what other threads of the parent had in magazines (at most two of
///   them for each size) stays unused there.
/// - The destructor unmaps everything: blocks that are still in use become invalid. Destructors of objects in them are
///   not run.
///
/// Without `Hardening` a wrong pointer given to deallocate is undefined behaviour.
/// Magazines: Bonwick & Adams, USENIX 2001; slabs: Bonwick, USENIX Summer 1994.
class SlabAllocator {
 public:
  /// \throws InvalidConfig for a capacity of 0 or above 2^46, or hardening that needs `checks` without them.
  /// \throws ResourceExhausted when the address space is not to be had: choose a smaller capacity.
  /// \throws NotSupported for guard pages where the kernel's pages are as large as slabs.
  explicit SlabAllocator(const SlabConfig& config = {});
  SlabAllocator(const SlabAllocator&) = delete;
  SlabAllocator& operator=(const SlabAllocator&) = delete;
  ~SlabAllocator();

  /// A block of at least `size` bytes, not initialized; for 0 bytes one as for 1.
  /// \throws InvalidConfig for more than largest_block bytes (8 less with canaries).
  /// \throws ResourceExhausted when the capacity is used up.
  void* allocate(std::size_t size) {
    if (size <= largest_block) {
      if (detail::ThreadStocks* const mine = threads_.known()) {
        if (void* const block = mine->pop(class_of(size))) return block;
      }
    }
    return allocate_slowly(size, 1);
  }
  /// The same, aligned to a power of two up to 4096. \throws InvalidConfig for another alignment.
  void* allocate(std::size_t size, std::size_t alignment) {
    if (is_alignment(alignment) && size <= largest_block) {
      const unsigned size_class = class_of(size, alignment);
      detail::ThreadStocks* const mine = threads_.known();
      if (mine != nullptr && size_class < class_count) {
        if (void* const block = mine->pop(size_class)) return block;
      }
    }
    return allocate_slowly(size, alignment);
  }

  /// Frees a block of this allocator; nothing for nullptr. What Hardening finds is thrown.
  void deallocate(void* block) {
    if (block != nullptr) {
      if (detail::ThreadStocks* const mine = threads_.known()) {
        if (mine->push(class_at(block), block)) return;
      }
    }
    deallocate_slowly(block);
  }
  /// The same for who knows the size that was asked for: saves a look-up.
  void deallocate(void* block, std::size_t size) {
    if (block != nullptr && size <= largest_block) {
      if (detail::ThreadStocks* const mine = threads_.known()) {
        if (mine->push(class_of(size), block)) return;
      }
    }
    deallocate_slowly(block, size, 1);
  }
  /// For a block that was asked for with an alignment.
  void deallocate(void* block, std::size_t size, std::size_t alignment) {
    if (block != nullptr && is_alignment(alignment) && size <= largest_block) {
      const unsigned size_class = class_of(size, alignment);
      detail::ThreadStocks* const mine = threads_.known();
      if (mine != nullptr && size_class < class_count && mine->push(size_class, block)) return;
    }
    deallocate_slowly(block, size, alignment);
  }

  /// An object in a block. \throws what its constructor throws, after the block was freed.
  template <class T, class... Arguments>
  T* create(Arguments&&... arguments) {
    static_assert(sizeof(T) <= largest_block && alignof(T) <= 4096, "larger objects go to vm::mem::HostMapping");
    void* const block = allocate(sizeof(T), alignof(T));
    try {
      return ::new (block) T(std::forward<Arguments>(arguments)...);
    } catch (...) {
      deallocate(block, sizeof(T), alignof(T));
      throw;
    }
  }
  /// Destroys what `create` made of the same type, and frees it; nothing for nullptr.
  template <class T>
  void destroy(T* object) {
    if (object == nullptr) return;
    object->~T();
    deallocate(object, sizeof(T), alignof(T));
  }

  /// A stock of its own for a hot loop, which saves finding the calling thread's. Used by one thread at a time, and
  /// not after the allocator is gone; its blocks are blocks of the allocator.
  class Local {
   public:
    /// As those of SlabAllocator.
    void* allocate(std::size_t size) {
      if (size <= largest_block) {
        if (void* const block = stocks_.get()->pop(class_of(size))) return block;
      }
      return allocator_->allocate_slowly(*stocks_.get(), size);
    }
    void deallocate(void* block, std::size_t size) {
      if (block != nullptr && size <= largest_block) {
        if (stocks_.get()->push(class_of(size), block)) return;
      }
      allocator_->deallocate_slowly(*stocks_.get(), block, size);
    }

   private:
    friend class SlabAllocator;
    Local(SlabAllocator& allocator, vm::detail::SlotHandle<detail::ThreadStocks> stocks)
        : allocator_(&allocator), stocks_(std::move(stocks)) {}
    SlabAllocator* allocator_;
    vm::detail::SlotHandle<detail::ThreadStocks> stocks_;
  };
  /// \throws std::bad_alloc
  Local local();

  /// Bytes that allocate can give at most: largest_block, less with canaries.
  std::size_t largest_size() const noexcept;
  /// Bytes that a block has; with canaries less are the caller's. `block` is in use.
  std::size_t usable_size(const void* block) const noexcept { return block_size(class_at(block)); }
  /// Whether an address lies in the address space of this allocator.
  bool contains(const void* address) const noexcept {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(address) - base_) < capacity_;
  }
  /// Has `count` free blocks of `size` bytes in their slab before anybody asks; their pages are touched when used.
  /// \throws as allocate; then it has taken nothing.
  void reserve(std::size_t size, std::size_t count);
  /// Gives back what nobody uses: the calling thread's magazines and those in the depot go to the slabs, and the pages
  /// of empty slabs to the kernel. What other threads hold in magazines stays with them. Returns the bytes of those
  /// slabs, touched or not.
  std::uint64_t trim();
  /// With `Hardening`, looks at all canaries and at the whole quarantine now. \throws AccessViolation for the first
  /// damage found.
  void verify();

  SlabStats stats() const;
  const SlabConfig& config() const noexcept;

 private:
  unsigned class_at(const void* block) const noexcept {
    const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(block) - base_);
    return slab_classes_[offset >> slab_shift_].load(std::memory_order_relaxed);
  }
  void* allocate_slowly(std::size_t size, std::size_t alignment);
  void* allocate_slowly(detail::ThreadStocks& stocks, std::size_t size);
  void deallocate_slowly(void* block);
  void deallocate_slowly(void* block, std::size_t size, std::size_t alignment);
  void deallocate_slowly(detail::ThreadStocks& stocks, void* block, std::size_t size);
  detail::ThreadStocks* mine() noexcept;

  static constexpr unsigned slab_shift_ = 16;

  std::unique_ptr<detail::SlabHeap> heap_;
  // Of the heap, here so that the inlined parts find them in one step.
  const std::byte* base_;
  std::uint64_t capacity_;
  const std::atomic<std::uint8_t>* slab_classes_;
  std::unique_ptr<detail::ForkGuard> fork_guard_;
  vm::detail::PerThread<detail::ThreadStocks> threads_;  // last: it goes first, while the heap is there
};

}  // namespace vm::mem::alloc
