#include "vm/mem/tlb/private_level.hpp"

namespace vm::mem::tlb::detail {

PrivateLevel::PrivateLevel(std::uint32_t entries, std::uint32_t ways)
    : set_of_(entries / ways),
      slot_of_(entries),
      masked_(slot_of_.is_power_of_two()),
      slots_(entries),
      next_(set_of_.sets()) {
  for (std::uint32_t set = 0; set < set_of_.sets(); ++set) next_[set] = set;
}

VM_TLB_NEVER_INLINE const PrivateLevel::Slot* PrivateLevel::find_elsewhere(std::uint64_t page, std::uint64_t tag,
                                                                           Context context) const noexcept {
  for (std::size_t slot = set_of_(page); slot < slots_.size(); slot += set_of_.sets())
    if (slots_[slot].holds(tag, context)) return &slots_[slot];
  return nullptr;
}

bool PrivateLevel::fill(const PackedEntry& entry) noexcept {
  const unsigned size = size_of_tag(entry.tag);
  const std::uint64_t page = entry.tag >> size;
  Slot& own = slots_[own_slot(page)];
  bool full = false;
  if (own.live()) {
    const std::uint32_t sets = set_of_.sets();
    std::size_t other = set_of_(page);
    while (other < slots_.size() && slots_[other].live()) other += sets;
    full = other >= slots_.size();
    if (full) {
      std::uint32_t& next = next_[set_of_(page)];
      other = next;
      next = next + sets < slots_.size() ? next + sets : next % sets;
    }
    if (&slots_[other] != &own) slots_[other].write(own.read());
  }
  own.write(entry);
  sizes_ |= std::uint64_t{1} << size;
  return full;
}

void PrivateLevel::drop(const PackedEntry& entry) noexcept {
  for (std::size_t slot = set_of_(entry.tag >> size_of_tag(entry.tag)); slot < slots_.size(); slot += set_of_.sets()) {
    const PackedEntry old = slots_[slot].read();
    if (old.tag == entry.tag && same_page_and_context(old.meta, entry.meta)) slots_[slot].clear();
  }
}

std::size_t PrivateLevel::flush_set(std::uint32_t set, const FlushRequest& request) noexcept {
  std::size_t gone = 0;
  for (std::size_t slot = set; slot < slots_.size(); slot += set_of_.sets()) {
    const PackedEntry old = slots_[slot].read();
    if (old.tag == 0 || !covers(request, old.tag, old.meta)) continue;
    slots_[slot].clear();
    ++gone;
  }
  return gone;
}

std::size_t PrivateLevel::flush(const FlushRequest& request) noexcept {
  std::size_t gone = 0;
  if ((request.scope == FlushScope::page || request.scope == FlushScope::range) && request.size == 1) {
    for (std::uint64_t sizes = sizes_; sizes != 0; sizes &= sizes - 1)
      gone += flush_set(set_of_(request.vaddr >> lowest_bit(sizes)), request);
    return gone;
  }
  for (std::uint32_t set = 0; set < set_of_.sets(); ++set) gone += flush_set(set, request);
  if (request.scope == FlushScope::all) sizes_ = 0;
  return gone;
}

}  // namespace vm::mem::tlb::detail
