#include "vm/mem/tlb/private_level.hpp"

namespace vm::mem::tlb::detail {

PrivateLevel::PrivateLevel(std::uint32_t entries, std::uint32_t ways)
    : index_(entries / ways),
      masked_(index_.is_power_of_two()),
      ways_(ways),
      stride_((ways + 3) / 4 * 4),
      set_words_(3 * stride_ + 2) {
  set_words_ += set_words_ % 2;
  const std::size_t words = index_.sets() * set_words_;
  words_.reset(static_cast<Word*>(::operator new (words * sizeof(Word), std::align_val_t{64})));
  for (std::size_t i = 0; i < words; ++i) new (&words_[i]) Word(0);
}

bool PrivateLevel::fill(const PackedEntry& entry) noexcept {
  const unsigned size = size_of_tag(entry.tag);
  Word* set = words_.get() + set_of(entry.tag >> size) * set_words_;
  const unsigned empty = match(set, stride_, 0) & (UINT32_MAX >> (32 - ways_));
  const bool full = empty == 0;
  unsigned way = full ? 0 : lowest_bit(empty);
  if (full) {
    Word& next = set[3 * stride_];
    way = static_cast<unsigned>(next.load(std::memory_order_relaxed));
    next.store(way + 1 == ways_ ? 0 : way + 1, std::memory_order_relaxed);
  }
  set[way].store(entry.tag, std::memory_order_relaxed);
  set[stride_ + way].store(entry.frame, std::memory_order_relaxed);
  set[2 * stride_ + way].store(entry.meta, std::memory_order_relaxed);
  sizes_ |= std::uint64_t{1} << size;
  return full;
}

void PrivateLevel::drop(const PackedEntry& entry) noexcept {
  Word* set = words_.get() + set_of(entry.tag >> size_of_tag(entry.tag)) * set_words_;
  for (unsigned way = 0; way < ways_; ++way) {
    if (set[way].load(std::memory_order_relaxed) == entry.tag &&
        same_page_and_context(set[2 * stride_ + way].load(std::memory_order_relaxed), entry.meta))
      set[way].store(0, std::memory_order_relaxed);
  }
}

std::size_t PrivateLevel::flush_set(std::uint32_t set, const FlushRequest& request) noexcept {
  Word* words = words_.get() + set * set_words_;
  std::size_t gone = 0;
  for (unsigned way = 0; way < ways_; ++way) {
    const std::uint64_t tag = words[way].load(std::memory_order_relaxed);
    if (tag == 0 || !covers(request, tag, words[2 * stride_ + way].load(std::memory_order_relaxed))) continue;
    words[way].store(0, std::memory_order_relaxed);
    ++gone;
  }
  return gone;
}

std::size_t PrivateLevel::flush(const FlushRequest& request) noexcept {
  std::size_t gone = 0;
  if ((request.scope == FlushScope::page || request.scope == FlushScope::range) && request.size == 1) {
    for (std::uint64_t sizes = sizes_; sizes != 0; sizes &= sizes - 1)
      gone += flush_set(set_of(request.vaddr >> lowest_bit(sizes)), request);
    return gone;
  }
  for (std::uint32_t set = 0; set < index_.sets(); ++set) gone += flush_set(set, request);
  if (request.scope == FlushScope::all) sizes_ = 0;
  return gone;
}

}  // namespace vm::mem::tlb::detail
