#pragma once
/// \file
/// What Hardening::checks and the options above it do. Every block's state and the size that was asked for stand in a
/// ledger beside the slabs, one word for each 16 bytes of address space.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "mem/alloc/slab_store.hpp"
#include "vm/mem/alloc/encoded_queue.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem::alloc::detail {

/// All members may be called concurrently; one lock for all of them.
class BlockChecks {
 public:
  /// Throws InvalidConfig, ResourceExhausted.
  BlockChecks(SlabStore& store, const Hardening& hardening);

  /// Bytes that a block has to have beyond those asked for.
  std::size_t margin() const noexcept { return canaries_ ? least_canary : 0; }
  /// nullptr when the capacity is used up.
  void* allocate(unsigned size_class, std::size_t size);
  /// `size`: what the caller says was asked for, if it does. Throws DoubleFree, AccessViolation.
  void free(void* block, std::optional<std::size_t> size);
  /// Throws AccessViolation for the first damage.
  void verify();
  /// Frees what is in quarantine. Throws AccessViolation for the first damage; such blocks stay out of use.
  void empty_quarantine();
  std::uint64_t quarantined() const;

  std::mutex& mutex() noexcept { return mutex_; }

  static constexpr std::size_t least_canary = 8;

 private:
  struct Block {
    std::byte* start;
    std::uint32_t size_class;
  };
  std::uint32_t* word_of(const void* block) const noexcept;
  Block require_block(const void* address) const;
  Block block_of(std::uint64_t number) const noexcept;
  std::byte canary(const std::byte* block, std::size_t at) const noexcept;
  void write_canary(const Block& block, std::size_t size) const noexcept;
  void require_canary(const Block& block, std::size_t size) const;
  void require_untouched(const Block& block) const;
  void release(std::optional<std::uint64_t> number);

  SlabStore& store_;
  bool canaries_;
  std::uint64_t secret_;
  std::shared_ptr<HostMapping> ledger_pages_;
  std::uint32_t* ledger_;
  mutable std::mutex mutex_;
  std::optional<EncodedQueue> quarantine_;
};

}  // namespace vm::mem::alloc::detail
