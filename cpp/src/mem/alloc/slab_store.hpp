#pragma once
/// \file
/// Slabs: runs of 64 KiB of one reservation of address space, each cut into blocks of one class. Which blocks are free
/// is kept in bits beside them, never in the blocks.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "vm/mem/alloc/slab_config.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem::alloc::detail {

inline constexpr unsigned slab_shift = 16;
inline constexpr std::uint64_t slab_bytes = std::uint64_t{1} << slab_shift;
/// What a slab is when it belongs to no class.
inline constexpr std::uint8_t unclassed = class_count;

/// Where blocks come from when nobody has one at hand. All members may be called concurrently.
class SlabStore {
 public:
  /// Throws InvalidConfig, ResourceExhausted, NotSupported.
  explicit SlabStore(const SlabConfig& config);

  /// Writes up to `count` free blocks of a class to `out`; none when the capacity is used up, else at least one. Throws
  /// ResourceExhausted, PlatformError when the kernel refuses a guard page.
  std::uint32_t take(unsigned size_class, void** out, std::uint32_t count);
  /// Takes blocks of a class back. One that is free already stays what it is, and is counted.
  void give(unsigned size_class, void* const* blocks, std::uint32_t count) noexcept;
  /// Has at least `count` free blocks of a class. Throws ResourceExhausted, PlatformError; then it has taken nothing.
  void reserve(unsigned size_class, std::uint64_t count);
  /// Gives the pages of empty slabs back; returns their bytes.
  std::uint64_t purge() noexcept;

  std::byte* base() const noexcept { return pages_->data(); }
  std::uint64_t capacity() const noexcept { return pages_->size(); }
  const std::atomic<std::uint8_t>* slab_classes() const noexcept { return slab_classes_; }
  /// Slabs that were ever in use; those beyond were not.
  std::uint32_t slabs_used() const noexcept { return used_.load(std::memory_order_acquire); }
  std::uint32_t blocks_per_slab(unsigned size_class) const noexcept {
    return static_cast<std::uint32_t>(usable_ / block_size(size_class));
  }

  /// `live` counts what was taken and not given back; `cached` is the caller's business.
  SlabClassStats class_stats(unsigned size_class) const;
  std::uint64_t spare_slabs() const;
  std::uint64_t repeated_frees() const noexcept { return repeated_frees_.load(std::memory_order_relaxed); }

  /// All locks, for who is about to fork, and back.
  void lock();
  void unlock();

 private:
  struct Slab;
  struct alignas(64) Class {
    mutable std::mutex mutex;
    std::uint32_t partial;  // first of the slabs with free blocks
    SlabClassStats stats;
    std::uint32_t reciprocal;
  };

  std::uint32_t new_slab(unsigned size_class);
  std::uint32_t take_from(std::uint32_t index, unsigned size_class, void** out, std::uint32_t count) noexcept;
  bool give_one(unsigned size_class, const void* block) noexcept;
  void require_room(unsigned size_class, std::uint64_t count, std::uint64_t found) const;
  std::uint32_t claim();
  void release(std::uint32_t index) noexcept;
  bool discard(std::uint32_t index) noexcept;
  void guard(std::uint32_t index);
  void link(Class& owner, std::uint32_t index) noexcept;
  void unlink(Class& owner, std::uint32_t index) noexcept;

  std::uint32_t most_spare_;
  bool guard_pages_;
  std::shared_ptr<HostMapping> pages_;
  std::shared_ptr<HostMapping> slab_pages_;
  std::shared_ptr<HostMapping> class_pages_;
  Slab* slabs_;
  std::atomic<std::uint8_t>* slab_classes_;
  std::uint64_t usable_;  // bytes of a slab that blocks may take
  std::array<Class, class_count> classes_;
  std::atomic<std::uint64_t> repeated_frees_{0};

  // Under arena_mutex_, which is taken after a class's.
  mutable std::mutex arena_mutex_;
  std::atomic<std::uint32_t> used_{0};
  std::uint32_t spare_;   // empty slabs with pages
  std::uint32_t purged_;  // and without
  std::uint32_t spare_count_ = 0;
  std::uint32_t purged_count_ = 0;
};

}  // namespace vm::mem::alloc::detail
