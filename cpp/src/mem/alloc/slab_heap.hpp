#pragma once
/// \file
/// What the threads of a SlabAllocator share: the depot of magazines, the slabs under it, and the checks.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "mem/alloc/block_checks.hpp"
#include "mem/alloc/magazines.hpp"
#include "mem/alloc/slab_store.hpp"
#include "vm/mem/alloc/slab_config.hpp"

namespace vm::mem::alloc::detail {

/// All members may be called concurrently, with different `ThreadStocks`.
class SlabHeap {
 public:
  /// Throws InvalidConfig, ResourceExhausted, NotSupported.
  explicit SlabHeap(const SlabConfig& config);

  /// A block when the stock had none. Without `stocks` it comes from the slabs directly. Throws ResourceExhausted.
  void* refill(ThreadStocks* stocks, unsigned size_class);
  /// Takes a block for which the stock had no room.
  void flush(ThreadStocks* stocks, unsigned size_class, void* block) noexcept;
  /// A block for callers with Hardening::checks. Throws ResourceExhausted.
  void* allocate_checked(unsigned size_class, std::size_t size);
  /// Takes all that the stocks have, at the end of their thread or for trim().
  void take_back(ThreadStocks& stocks) noexcept;
  /// From the depot to the slabs.
  void empty_depot() noexcept;
  /// The stocks' blocks are not wanted any more, because all memory goes.
  void close() noexcept { closing_.store(true, std::memory_order_relaxed); }

  SlabConfig config;
  SlabStore store;
  Magazines magazines;
  std::optional<BlockChecks> checks;

  /// Adds what lies in stocks and depot; the rest of the account is the store's.
  void count(const ThreadStocks& stocks, SlabStats& stats) const noexcept;
  void count_depot(SlabStats& stats) const noexcept;
  std::uint64_t retired_exchanges() const noexcept { return retired_exchanges_.load(std::memory_order_relaxed); }

 private:
  void* take_one(ThreadStocks* stocks, unsigned size_class);
  [[noreturn]] void throw_exhausted(unsigned size_class) const;
  std::uint32_t empty_magazine() noexcept;
  bool keep(unsigned size_class, void** top) noexcept;

  struct alignas(64) Depot {
    MagazineStack full;
    std::uint32_t deepest = 0;
  };
  std::array<Depot, class_count> depots_;
  MagazineStack empty_;
  std::atomic<bool> closing_{false};
  std::atomic<std::uint64_t> retired_exchanges_{0};
};

}  // namespace vm::mem::alloc::detail
