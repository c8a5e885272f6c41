#pragma once
/// \file
/// malloc for arrays: aligned, large ones on huge pages, and pages that were freed kept for the next array.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>

namespace vm::mem {

struct ArrayAllocatorOptions {
  /// Of every array: a power of two from 16 to 2 MiB.
  std::uint64_t alignment = 64;
  /// Whether arrays from 1 MiB on lie on transparent huge pages where the kernel can. Then they begin at a multiple of
  /// 2 MiB, and one may occupy up to 2 MiB more than it needs; on pages that a freed array had a quarter more, and
  /// after `reallocate` to less twice as much.
  bool huge_pages = true;
  /// Bytes of freed arrays from 1 MiB on that stay mapped for the next ones; 0 keeps nothing. Threads that free at the
  /// same moment may exceed it by what they free.
  std::uint64_t retain = std::uint64_t{256} << 20;
  /// Called with fresh pages for an array from 1 MiB on before anybody touches them, by the thread that allocates; it
  /// allocates and throws nothing. A result that is not 0 means that the array gets no memory.
  std::function<int(void* start, std::uint64_t size)> place;
};

/// Counts since the allocator was made; sizes in bytes as they were asked for, unless it says otherwise. What is read
/// while other threads allocate is of no single moment.
struct ArrayAllocatorStats {
  std::uint64_t allocations = 0;
  std::uint64_t frees = 0;
  std::uint64_t reallocations = 0;
  std::uint64_t failures = 0;        ///< requests that the system had no memory for
  std::uint64_t reused = 0;          ///< times that pages which another array had before served an (re)allocation
  std::uint64_t bytes_in_use = 0;    ///< now
  std::uint64_t peak_bytes = 0;      ///< most in use at once
  std::uint64_t mapped_bytes = 0;    ///< now mapped for arrays from 1 MiB on, in use or kept
  std::uint64_t retained_bytes = 0;  ///< of these, kept for the next arrays
};

/// Arrays below 1 MiB come from malloc, with the size in front; larger ones from mmap. Any thread may allocate and free
/// anything, and a child of fork may go on using it: nobody ever waits for another thread. It is fastest in the
/// thread that made it. It outlives its arrays.
class ArrayAllocator {
 public:
  /// Throws InvalidConfig.
  explicit ArrayAllocator(const ArrayAllocatorOptions& options = {});
  ArrayAllocator(const ArrayAllocator&) = delete;
  ArrayAllocator& operator=(const ArrayAllocator&) = delete;
  ~ArrayAllocator();

  /// nullptr when the system has no memory, or never had so much; 0 bytes are 1.
  void* allocate(std::uint64_t size) noexcept;
  /// count * size bytes of zeros; nullptr also when that does not fit 64 bits.
  void* allocate_zeroed(std::uint64_t count, std::uint64_t size) noexcept;
  /// As realloc(3): the bytes move if they must and stay aligned; on nullptr the old array stays.
  void* reallocate(void* array, std::uint64_t size) noexcept;
  /// nullptr is nothing.
  void free(void* array) noexcept;

  /// Gives back what is kept, and keeps nothing from now on. Called by another thread than the one that made the
  /// allocator, it leaves that thread up to 8 arrays, until it frees a large one or the allocator goes.
  void stop_retaining() noexcept;
  ArrayAllocatorStats stats() const noexcept;
  const ArrayAllocatorOptions& options() const noexcept { return options_; }

 private:
  struct Header;
  using Counter = std::atomic<std::uint64_t>;
  static constexpr std::size_t cache_line = 64;

  struct alignas(cache_line) Counters {
    Counter allocations{0};
    Counter frees{0};
    Counter reallocations{0};
    Counter reused{0};
    Counter in_use{0};
    Counter mapped{0};
    Counter retained{0};
  };

  /// Where one call counts: the owner in its own counters. Sums are modulo 2^64.
  class Ledger {
   public:
    explicit Ledger(ArrayAllocator& allocator) noexcept
        : Ledger(allocator, std::this_thread::get_id() == allocator.owner_) {}
    Ledger(ArrayAllocator& allocator, bool owner) noexcept
        : counters_(owner ? allocator.own_ : allocator.shared_), owner_(owner) {}

    bool owner() const noexcept { return owner_; }
    void add(Counter Counters::*which, std::uint64_t change) const noexcept {
      // Relaxed: counters only count, so nothing is published through them.
      Counter& counter = counters_.*which;
      if (owner_) {
        counter.store(counter.load(std::memory_order_relaxed) + change, std::memory_order_relaxed);
      } else {
        counter.fetch_add(change, std::memory_order_relaxed);
      }
    }

   private:
    Counters& counters_;
    bool owner_;
  };

  std::uint64_t total(Counter Counters::*counter) const noexcept;
  void note_peak() noexcept;
  void* counted(void* array, Ledger ledger) noexcept;

  void* place(std::uint64_t size, bool zeroed, Ledger ledger) noexcept;
  void* move(void* array, std::uint64_t size, Ledger ledger) noexcept;
  void release(void* array, Ledger ledger) noexcept;

  void* place_small(std::uint64_t size, bool zeroed) noexcept;
  void* move_small(void* array, std::uint64_t size) noexcept;
  std::uint64_t offset_in(const std::byte* base) const noexcept;
  void* with_header(std::byte* base, std::uint64_t size) noexcept;

  void* place_large(std::uint64_t size, bool zeroed, Ledger ledger) noexcept;
  void clear(std::byte* data, std::uint64_t size) const noexcept;
  std::uint64_t mapped_size(unsigned size_class) const noexcept;
  std::byte* map(unsigned size_class, Ledger ledger) noexcept;
  void unmap(std::byte* data, unsigned size_class, Ledger ledger) noexcept;
  std::byte* take_kept(unsigned size_class, Ledger ledger) noexcept;
  void keep_or_unmap(std::byte* data, unsigned size_class, Ledger ledger) noexcept;
  bool evict_one(Ledger ledger) noexcept;
  void drop(std::uintptr_t slot_value, Ledger ledger) noexcept;
  void drop_all(Ledger ledger) noexcept;

  // A slot holds the address of an array's pages with their size class in the low bits, which are 0 in an address of
  // pages, so taking it needs no look at the pages themselves.
  static constexpr std::size_t slot_count = 32;
  static constexpr std::size_t own_slot_count = 8;

  ArrayAllocatorOptions options_;
  std::uint64_t page_;
  std::atomic<std::uint64_t> retain_limit_;
  std::array<std::atomic<std::uintptr_t>, slot_count> kept_{};
  std::atomic<unsigned> victim_{0};

  // The thread that made the allocator has slots and counters of its own, for which it needs no atomic exchanges and
  // additions; they are most of the time that an array costs. A later thread of the same id is the only one that has
  // it.
  std::thread::id owner_ = std::this_thread::get_id();
  std::array<std::uintptr_t, own_slot_count> own_kept_{};
  Counters own_;
  Counters shared_;
  Counter peak_{0};
  Counter failures_{0};
};

}  // namespace vm::mem
