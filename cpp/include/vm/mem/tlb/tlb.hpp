#pragma once
/// \file
/// What every TLB does, whatever is inside.

#include <cstddef>
#include <cstdint>

#include "vm/mem/tlb/entry.hpp"
#include "vm/mem/tlb/flush.hpp"
#include "vm/mem/tlb/stats.hpp"

namespace vm::mem::tlb {

/// The moment before a page-table walk. A fill shows it, so that a translation read from the tables before a flush is
/// not cached after it.
struct FillTicket {
  std::uint64_t generation = 0;
};

/// A cache of translations. Which members may be called concurrently is said by the class that implements them.
class Tlb {
 public:
  virtual ~Tlb() = default;

  /// Looks `vaddr` up for `context`. Rights are not checked: ask `hit.allows`. On a miss `hit` is unspecified.
  virtual bool lookup(std::uint64_t vaddr, Context context, Hit& hit) noexcept = 0;

  /// Whether a look-up would hit. Leaves no trace: neither a count nor a use.
  virtual bool contains(std::uint64_t vaddr, Context context) const noexcept = 0;

  /// To be taken before the page tables are read.
  virtual FillTicket begin_fill() const noexcept = 0;
  /// Caches `entry`; an entry of the same page and context is replaced. False, and nothing is cached, when a flush that
  /// covers it has begun since the ticket was taken, or may have.
  virtual bool insert(const Entry& entry, FillTicket ticket) noexcept = 0;

  /// When it returns, no look-up on any thread that begins later answers from an entry that `request` covers.
  virtual void flush(const FlushRequest& request) noexcept = 0;

  /// Sums over all threads. An event that happens meanwhile may be missing.
  virtual TlbStats stats() const = 0;
  /// Live entries of all levels; an entry that two levels hold counts twice.
  virtual std::size_t size() const noexcept = 0;
  virtual std::size_t capacity() const noexcept = 0;

 protected:
  Tlb() = default;
  Tlb(const Tlb&) = default;
  Tlb& operator=(const Tlb&) = default;
};

}  // namespace vm::mem::tlb
