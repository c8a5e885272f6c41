#pragma once
/// \file
/// A run of guest-physical addresses that a VM sees as memory.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vm/mem/guest/region.hpp"

namespace vm::accel {

/// How a VM sees memory.
struct SlotFlags {
  bool read_only = false;  ///< guest writes become MmioWrite exits
  bool log_dirty = false;  ///< the hypervisor notes which pages the guest writes
};

inline bool operator==(SlotFlags a, SlotFlags b) noexcept {
  return a.read_only == b.read_only && a.log_dirty == b.log_dirty;
}

struct MemorySlot {
  unsigned id = 0;         ///< the backend's number, reused after removal
  std::uint64_t base = 0;  ///< first guest-physical address
  std::uint64_t size = 0;  ///< bytes
  std::byte* host = nullptr;
  SlotFlags flags;
  std::string name;                           ///< of the region it was made from
  std::shared_ptr<mem::HostMapping> mapping;  ///< keeps `host` mapped

  std::uint64_t last() const noexcept { return base + (size - 1); }
};

/// Slots by base, and their numbers.
class SlotTable {
 public:
  const std::vector<MemorySlot>& all() const noexcept { return slots_; }
  /// The slot that holds `paddr`, or nullptr.
  const MemorySlot* find(std::uint64_t paddr) const noexcept;
  /// The slot that begins at `base`. Throws OutOfRange.
  const MemorySlot& starting_at(std::uint64_t base) const;
  /// A slot that has an address in common with [base, base + size), other than the one that begins at `except`.
  const MemorySlot* overlapping(std::uint64_t base, std::uint64_t size, const MemorySlot* except = nullptr) const;
  /// The lowest number that no slot has.
  unsigned free_id() const;

  void insert(MemorySlot slot);
  void erase(std::uint64_t base);

 private:
  std::vector<MemorySlot> slots_;  // sorted by base
};

}  // namespace vm::accel
