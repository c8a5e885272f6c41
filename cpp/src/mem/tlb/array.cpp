#include "vm/mem/tlb/array.hpp"

#include <algorithm>

namespace vm::mem::tlb {

namespace {

// splitmix64 (Steele, Lea and Flood, OOPSLA 2014): any seed, 0 too, becomes a state that xorshift can start from.
std::uint64_t spread(std::uint64_t seed) noexcept {
  std::uint64_t z = seed + 0x9E37'79B9'7F4A'7C15;
  z = (z ^ z >> 30) * 0xBF58'476D'1CE4'E5B9;
  z = (z ^ z >> 27) * 0x94D0'49BB'1331'11EB;
  z ^= z >> 31;
  return z == 0 ? 1 : z;
}

}  // namespace

SetAssociativeArray::SetAssociativeArray(const ArrayConfig& config, std::uint64_t seed)
    : sets_(config.sets),
      ways_(config.ways),
      stride_((config.ways + 3) / 4 * 4),
      replacement_(config.replacement),
      random_(spread(seed)),
      ways_storage_(config.entries()),
      tags_(std::size_t{config.sets} * stride_),
      filled_(config.replacement == Replacement::fifo ? config.entries() : 0) {}

Way* SetAssociativeArray::find_same(const Way& like) noexcept {
  if (counts_[like.size_log2()] == 0) return nullptr;
  // The ASID of a global entry means nothing: copies of one entry may differ in it.
  const std::uint32_t care = like.global() ? Way::vmid_mask : UINT32_MAX;
  return find_in_set(sets_(like.vaddr() >> like.size_log2()), like.tag(), [&](const Way& way) {
    return way.global() == like.global() && ((way.context ^ like.context) & care) == 0;
  });
}

Way* SetAssociativeArray::insert(const Way& entry, std::uint64_t now, Way& evicted) noexcept {
  Way* set = &ways_storage_[std::size_t{sets_(entry.vaddr() >> entry.size_log2())} * ways_];
  Way& way = set[victim(set)];
  evicted = way;
  if (way.live()) forget_size(way.size_log2());
  way = entry;
  way.used = now;
  tag_at(way) = entry.tag();
  if (!filled_.empty()) filled_[static_cast<std::size_t>(&way - ways_storage_.data())] = now;
  ++live_;
  if (counts_[entry.size_log2()]++ == 0) sizes_ |= std::uint64_t{1} << entry.size_log2();
  return &way;
}

std::uint32_t SetAssociativeArray::victim(const Way* set) noexcept {
  for (std::uint32_t w = 0; w < ways_ && live_ != capacity(); ++w)
    if (!set[w].live()) return w;
  switch (replacement_) {
    case Replacement::lru: break;
    case Replacement::tree_plru: return plru_victim(set);
    case Replacement::fifo: {
      const auto first = filled_.begin() + (set - ways_storage_.data());
      return static_cast<std::uint32_t>(std::min_element(first, first + ways_) - first);
    }
    case Replacement::random:  // xorshift64 (Marsaglia, 2003)
      random_ ^= random_ << 13;
      random_ ^= random_ >> 7;
      random_ ^= random_ << 17;
      return static_cast<std::uint32_t>((random_ >> 32) * ways_ >> 32);
  }
  // Without a jump for each way: which one is the oldest cannot be predicted.
  std::uint32_t oldest = 0;
  std::uint64_t least = set[0].used;
  for (std::uint32_t w = 1; w < ways_; ++w) {
    const bool older = set[w].used < least;
    oldest = older ? w : oldest;
    least = older ? set[w].used : least;
  }
  return oldest;
}

// A tree bit points away from the half that was touched last, and that half is the one with the latest time: the bits
// need not be kept, and a hit writes no tree. A node of n ways has (n + 1) / 2 of them on its left.
std::uint32_t SetAssociativeArray::plru_victim(const Way* set) const noexcept {
  const auto latest = [set](std::uint32_t from, std::uint32_t to) {
    std::uint64_t time = 0;
    for (std::uint32_t w = from; w < to; ++w) time = std::max(time, set[w].used);
    return time;
  };
  std::uint32_t first = 0, end = ways_;
  while (end - first > 1) {
    const std::uint32_t middle = first + (end - first + 1) / 2;
    if (latest(first, middle) <= latest(middle, end))
      end = middle;
    else
      first = middle;
  }
  return first;
}

}  // namespace vm::mem::tlb
