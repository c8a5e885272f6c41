#pragma once
/// \file
/// Memory that is handed out by moving a pointer and taken back all at once.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "vm/mem/alloc/size_classes.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem::alloc {

/// A place in a BumpAllocator to go back to.
class BumpMarker {
 public:
  /// Bytes in use below it.
  std::uint64_t used() const noexcept { return used_; }

 private:
  friend class BumpAllocator;
  explicit BumpMarker(std::uint64_t used) noexcept : used_(used) {}
  std::uint64_t used_;
};

/// An arena of one run of address space, whose pages are used as they are reached. Not thread-safe: one for each
/// thread, or a lock around it. Destructors of what lies in it are never run.
class BumpAllocator {
 public:
  /// `capacity`: bytes, rounded up to whole pages; they cost address space, and memory when used.
  /// \throws InvalidConfig for a capacity of 0 or above 2^46. \throws ResourceExhausted when the address space is not
  /// to be had.
  explicit BumpAllocator(std::uint64_t capacity = std::uint64_t{1} << 30, HugePages huge_pages = HugePages::automatic);
  static constexpr std::uint64_t largest_capacity = std::uint64_t{1} << 46;
  BumpAllocator(const BumpAllocator&) = delete;
  BumpAllocator& operator=(const BumpAllocator&) = delete;

  /// `size` bytes, aligned to a power of two, at least to 16. They are zeros only where the arena is used for the first
  /// time. 0 bytes may have the address of what comes next.
  /// \throws ResourceExhausted when they do not fit. \throws InvalidConfig when the alignment is no power of two.
  void* allocate(std::size_t size, std::size_t alignment = least_alignment) {
    if (alignment <= least_alignment && alignment != 0 && size <= largest_capacity) {
      // The cursor stays a multiple of 16. Numbers, because a pointer beyond the arena is not to be computed.
      const std::size_t padded = (size + least_alignment - 1) & ~(least_alignment - 1);
      if (reinterpret_cast<std::uintptr_t>(cursor_) + padded <= reinterpret_cast<std::uintptr_t>(end_)) {
        std::byte* const block = cursor_;
        cursor_ = block + padded;
        return block;
      }
    }
    return allocate_slowly(size, alignment);
  }
  /// An array of `count` objects, not initialized. \throws as allocate.
  template <class T>
  T* allocate_array(std::size_t count) {
    static_assert(std::is_trivially_destructible_v<T>, "a BumpAllocator runs no destructors");
    return static_cast<T*>(allocate(bytes_of(count, sizeof(T)), alignof(T)));
  }
  /// An object. \throws as allocate, and what its constructor throws.
  template <class T, class... Arguments>
  T* create(Arguments&&... arguments) {
    static_assert(std::is_trivially_destructible_v<T>, "a BumpAllocator runs no destructors");
    return ::new (allocate(sizeof(T), alignof(T))) T(std::forward<Arguments>(arguments)...);
  }

  BumpMarker mark() const noexcept { return BumpMarker(used()); }
  /// Everything that was allocated since `marker` was made is gone. A reset to an earlier marker makes it meaningless.
  /// \throws InvalidConfig where that shows, because less is in use; once as much is in use again, nobody notices.
  void reset(BumpMarker marker);
  /// Everything is gone.
  void reset() noexcept { rewind(BumpMarker(0)); }
  /// reset(marker), or nothing when the arena is at an earlier place already.
  void rewind(BumpMarker marker) noexcept;
  /// Gives the pages behind what is in use back to the kernel. Returns the bytes of address space concerned. \throws
  /// PlatformError
  std::uint64_t trim();

  std::uint64_t used() const noexcept { return static_cast<std::uint64_t>(cursor_ - begin_); }
  std::uint64_t capacity() const noexcept { return static_cast<std::uint64_t>(end_ - begin_); }
  /// The most that was in use at once.
  std::uint64_t peak() const noexcept { return used() > peak_ ? used() : peak_; }
  /// Calls of reset().
  std::uint64_t resets() const noexcept { return resets_; }
  bool contains(const void* address) const noexcept {
    const auto* const byte = static_cast<const std::byte*>(address);
    return begin_ <= byte && byte < end_;
  }
  /// Bytes from the beginning of the arena to an address in it.
  std::uint64_t offset(const void* address) const noexcept {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(address) - begin_);
  }
  /// The memory itself, for who has to keep it beyond the allocator.
  const std::shared_ptr<HostMapping>& mapping() const noexcept { return mapping_; }

 private:
  void* allocate_slowly(std::size_t size, std::size_t alignment);
  static std::size_t bytes_of(std::size_t count, std::size_t size);

  std::shared_ptr<HostMapping> mapping_;
  std::byte* begin_;
  std::byte* cursor_;
  std::byte* end_;
  std::uint64_t peak_ = 0;     // as of the last reset
  std::uint64_t touched_ = 0;  // beyond this no page was used since the last trim
  std::uint64_t resets_ = 0;
};

/// Takes back at its end what was allocated since its beginning.
class BumpScope {
 public:
  explicit BumpScope(BumpAllocator& arena) noexcept : arena_(arena), begin_(arena.mark()) {}
  BumpScope(const BumpScope&) = delete;
  BumpScope& operator=(const BumpScope&) = delete;
  ~BumpScope() { arena_.rewind(begin_); }

 private:
  BumpAllocator& arena_;
  BumpMarker begin_;
};

}  // namespace vm::mem::alloc
