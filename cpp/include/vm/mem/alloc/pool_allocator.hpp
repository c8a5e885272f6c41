#pragma once
/// \file
/// Blocks of one size, of any size: an ObjectPool whose objects are memory.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "vm/mem/alloc/object_pool.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem::alloc {

struct PoolConfig {
  /// `max` blocks of address space are taken at once, `min` blocks of memory. An evicted block gives its pages back,
  /// when it has a page or more.
  PoolLimits limits = {0, 1024, SIZE_MAX, UINT64_MAX};
  /// A power of two up to the page size.
  std::size_t alignment = 64;
  HugePages huge_pages = HugePages::none;
  /// As in PoolHooks.
  std::uint64_t (*now_ns)() = &steady_now_ns;
};

/// All members may be called concurrently, except the destructor, which unmaps all blocks. Freed blocks keep their
/// bytes: they are zeros only where a block is used for the first time, or for the first time since it was evicted.
/// Wrong pointers and double frees are always found. fork(): as ObjectPool.
class PoolAllocator {
 public:
  /// \throws InvalidConfig for a size of 0, an alignment that is none, or limits that contradict each other or have no
  /// end. \throws ResourceExhausted
  explicit PoolAllocator(std::size_t block_size, const PoolConfig& config = {});

  /// A block, the one freed last if there is one. \throws ResourceExhausted when max are in use.
  void* allocate();
  /// nullptr when max are in use.
  void* try_allocate();
  /// Nothing for nullptr. \throws DoubleFree, AccessViolation for an address that is no block's.
  void deallocate(void* block);

  /// As ObjectPool.
  std::size_t evict() { return pool_.evict(); }
  std::size_t clear() { return pool_.clear(); }
  PoolStats stats() const { return pool_.stats(); }
  const PoolLimits& limits() const noexcept { return pool_.limits(); }
  std::size_t block_size() const noexcept { return block_size_; }
  /// The distance of two blocks: what one really takes.
  std::size_t stride() const noexcept { return stride_; }
  /// The memory itself, for who has to keep it beyond the allocator.
  const std::shared_ptr<HostMapping>& mapping() const noexcept { return memory_->mapping; }

 private:
  /// Which blocks hold pages.
  struct Memory {
    std::shared_ptr<HostMapping> mapping;
    std::size_t stride;
    std::mutex mutex;
    std::vector<std::uint32_t> unused;  // blocks that do not exist
    std::uint32_t fresh = 0;            // nor does any from here on
  };
  /// One that exists.
  class Block {
   public:
    explicit Block(std::shared_ptr<Memory> memory);
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block();
    std::uint32_t number() const noexcept { return number_; }

   private:
    std::shared_ptr<Memory> memory_;
    std::uint32_t number_;
  };
  using Pool = ObjectPool<Block>;

  void* keep(Pool::Lease lease);

  std::size_t block_size_;
  std::size_t stride_;
  std::shared_ptr<Memory> memory_;
  Pool pool_;
  std::mutex mutex_;
  std::vector<Pool::Lease> leases_;  // by number of the block
};

}  // namespace vm::mem::alloc
