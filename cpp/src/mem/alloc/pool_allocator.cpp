#include "vm/mem/alloc/pool_allocator.hpp"

#include <chrono>
#include <string>
#include <utility>

#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::alloc {

namespace {

constexpr std::uint64_t largest_pool = std::uint64_t{1} << 46;

std::size_t checked_stride(std::size_t block_size, const PoolConfig& config) {
  require_valid(config.limits);
  const std::size_t alignment = config.alignment;
  const std::uint64_t page = host_page_size();
  if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > page) {
    throw InvalidConfig("blocks of a pool are aligned to a power of two up to " + std::to_string(page) +
                        ", asked for " + std::to_string(alignment));
  }
  if (block_size == 0 || block_size > largest_pool || config.limits.max > largest_pool / block_size ||
      config.limits.max > UINT32_MAX) {
    throw InvalidConfig(
        "a pool has blocks of at least 1 byte, less than 2^32 of them and at most 2^46 bytes together; "
        "asked for " +
        std::to_string(config.limits.max) + " of " + std::to_string(block_size) + " bytes");
  }
  return align_up(block_size, block_size < page ? alignment : page);
}

std::shared_ptr<HostMapping> map_blocks(std::size_t stride, const PoolConfig& config) {
  return HostMapping::anonymous(stride * config.limits.max, config.huge_pages);
}

}  // namespace

void require_valid(const PoolLimits& limits) {
  if (limits.max == 0 || limits.min > limits.max) {
    throw InvalidConfig("a pool has room for at least one object and for no less than it keeps; got min " +
                        std::to_string(limits.min) + ", max " + std::to_string(limits.max));
  }
}

std::uint64_t steady_now_ns() noexcept {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

void detail::throw_pool_exhausted(const PoolLimits& limits) {
  throw ResourceExhausted("all " + std::to_string(limits.max) +
                          " objects of the pool are on loan; release one, or choose a larger max");
}

PoolAllocator::Block::Block(std::shared_ptr<Memory> memory) : memory_(std::move(memory)) {
  const std::lock_guard<std::mutex> lock(memory_->mutex);
  if (memory_->unused.empty()) {
    memory_->unused.reserve(std::size_t{memory_->fresh} + 1);  // so that the destructor needs no memory
    number_ = memory_->fresh++;  // last: a number that got lost would push others out of the mapping
  } else {
    number_ = memory_->unused.back();
    memory_->unused.pop_back();
  }
}

PoolAllocator::Block::~Block() {
  const std::uint64_t unit = memory_->mapping->discard_unit();
  if (memory_->stride % unit == 0) {
    try {
      memory_->mapping->discard(number_ * memory_->stride, memory_->stride);
    } catch (const VmError&) {  // locked pages stay; the block is as usable as before
    }
  }
  const std::lock_guard<std::mutex> lock(memory_->mutex);
  memory_->unused.push_back(number_);
}

PoolAllocator::PoolAllocator(std::size_t block_size, const PoolConfig& config)
    : block_size_(block_size),
      stride_(checked_stride(block_size, config)),
      memory_(std::make_shared<Memory>()),
      pool_(
          [&] {
            memory_->mapping = map_blocks(stride_, config);
            memory_->stride = stride_;
            PoolHooks<Block> hooks;
            hooks.create = [memory = memory_] { return std::make_unique<Block>(memory); };
            hooks.now_ns = config.now_ns;
            return hooks;
          }(),
          config.limits) {
  if (config.limits.min != 0) memory_->mapping->populate(0, align_up(stride_ * config.limits.min, host_page_size()));
}

void* PoolAllocator::allocate() { return keep(pool_.acquire()); }

void* PoolAllocator::try_allocate() {
  Pool::Lease lease = pool_.try_acquire();
  return lease ? keep(std::move(lease)) : nullptr;
}

void* PoolAllocator::keep(Pool::Lease lease) {
  const std::uint32_t number = lease->number();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (number >= leases_.size()) leases_.resize(std::size_t{number} + 1);
  leases_[number] = std::move(lease);
  return memory_->mapping->data() + number * stride_;
}

void PoolAllocator::deallocate(void* block) {
  if (block == nullptr) return;
  const auto place = static_cast<std::uint64_t>(static_cast<const std::byte*>(block) - memory_->mapping->data());
  Pool::Lease lease;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (place / stride_ >= leases_.size() || place % stride_ != 0) {
      throw AccessViolation("free of " + hex(reinterpret_cast<std::uintptr_t>(block)) +
                            ", where this pool has no block; free what allocate returned, where it came from");
    }
    lease = std::move(leases_[place / stride_]);
  }
  if (!lease) {
    throw DoubleFree("the block of " + std::to_string(block_size_) + " bytes at " +
                     hex(reinterpret_cast<std::uintptr_t>(block)) + " is free already; somebody freed it before");
  }
  lease.release();
}

}  // namespace vm::mem::alloc
