#include "vm/accel/hypervisor/memory_slot.hpp"

#include <algorithm>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

bool ends_below(const MemorySlot& slot, std::uint64_t paddr) { return slot.last() < paddr; }

}  // namespace

const MemorySlot* SlotTable::find(std::uint64_t paddr) const noexcept {
  const auto at = std::lower_bound(slots_.begin(), slots_.end(), paddr, ends_below);
  return at != slots_.end() && at->base <= paddr ? &*at : nullptr;
}

const MemorySlot& SlotTable::starting_at(std::uint64_t base) const {
  const MemorySlot* slot = find(base);
  if (slot != nullptr && slot->base == base) return *slot;
  std::string message = "no memory slot begins at " + hex(base);
  if (slot != nullptr) message += "; the slot that holds this address begins at " + hex(slot->base);
  throw OutOfRange(message, base, 1);
}

const MemorySlot* SlotTable::overlapping(std::uint64_t base, std::uint64_t size, const MemorySlot* except) const {
  const std::uint64_t last = base + (size - 1);
  for (const MemorySlot& slot : slots_) {
    if (&slot != except && slot.base <= last && base <= slot.last()) return &slot;
  }
  return nullptr;
}

unsigned SlotTable::free_id() const {
  std::vector<bool> taken(slots_.size(), false);
  for (const MemorySlot& slot : slots_) {
    if (slot.id < taken.size()) taken[slot.id] = true;
  }
  return static_cast<unsigned>(std::find(taken.begin(), taken.end(), false) - taken.begin());
}

void SlotTable::insert(MemorySlot slot) {
  const auto at = std::lower_bound(slots_.begin(), slots_.end(), slot.base, ends_below);
  slots_.insert(at, std::move(slot));
}

void SlotTable::erase(std::uint64_t base) {
  slots_.erase(std::remove_if(slots_.begin(), slots_.end(), [base](const MemorySlot& s) { return s.base == base; }),
               slots_.end());
}

}  // namespace vm::accel
