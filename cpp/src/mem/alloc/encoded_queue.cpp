#include "vm/mem/alloc/encoded_queue.hpp"

namespace vm::mem::alloc::detail {

namespace {

constexpr unsigned number_bits = 42;

// The finalizer of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): every bit of the result depends on every one of x.
std::uint64_t mix(std::uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

}  // namespace

EncodedQueue::EncodedQueue(std::size_t capacity, std::uint64_t secret) : entries_(capacity), secret_(secret) {}

std::uint64_t EncodedQueue::mask(std::size_t place) const noexcept {
  // Which push wrote this place last follows from how many there were.
  const std::uint64_t behind = (oldest_ + size_ + entries_.size() - 1 - place) % entries_.size();
  return mix(secret_ ^ mix(turns_ - behind));
}

void EncodedQueue::push(std::uint64_t number) noexcept {
  const std::size_t place = (oldest_ + size_) % entries_.size();
  ++size_;
  ++turns_;
  const std::uint64_t mine = mask(place);
  const std::uint64_t proof = mix(mine ^ number) >> number_bits;
  entries_[place] = (proof << number_bits | number) ^ mine;
}

std::optional<std::uint64_t> EncodedQueue::decode(std::size_t place) const noexcept {
  const std::uint64_t mine = mask(place);
  const std::uint64_t entry = entries_[place] ^ mine;
  const std::uint64_t number = entry & largest;
  if (entry >> number_bits != mix(mine ^ number) >> number_bits) return std::nullopt;
  return number;
}

std::optional<std::uint64_t> EncodedQueue::peek(std::size_t i) const noexcept {
  return decode((oldest_ + i) % entries_.size());
}

std::optional<std::uint64_t> EncodedQueue::pop() noexcept {
  const std::optional<std::uint64_t> number = decode(oldest_);
  oldest_ = (oldest_ + 1) % entries_.size();
  --size_;
  return number;
}

}  // namespace vm::mem::alloc::detail
