#pragma once
/// \file
/// A queue of small numbers that notices when somebody else writes into it: what a list of freed blocks has to be when
/// it must not lead the allocator where an attacker wants.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace vm::mem::alloc::detail {

/// First in, first out. Each entry is mixed with a secret and with its place, and carries 22 bits that only the secret
/// gives, so an entry that was overwritten, moved or repeated is found, but for one in four million guesses. Not
/// thread-safe.
class EncodedQueue {
 public:
  /// Numbers are at most this.
  static constexpr std::uint64_t largest = (std::uint64_t{1} << 42) - 1;

  /// Room for `capacity` numbers, above 0. \throws std::bad_alloc
  EncodedQueue(std::size_t capacity, std::uint64_t secret);

  std::size_t size() const noexcept { return size_; }
  bool full() const noexcept { return size_ == entries_.size(); }
  /// Not when full.
  void push(std::uint64_t number) noexcept;
  /// The oldest, or nothing when its entry was overwritten; not when empty.
  std::optional<std::uint64_t> pop() noexcept;
  /// Number `i` from the oldest on, or nothing when its entry was overwritten.
  std::optional<std::uint64_t> peek(std::size_t i) const noexcept;

  /// Where the entries lie: what an attacker would write to.
  std::vector<std::uint64_t>& entries() noexcept { return entries_; }

 private:
  std::uint64_t mask(std::size_t place) const noexcept;
  std::optional<std::uint64_t> decode(std::size_t place) const noexcept;

  std::vector<std::uint64_t> entries_;
  std::uint64_t secret_;
  std::uint64_t turns_ = 0;  // pushes so far: an old entry does not fit its place again
  std::size_t oldest_ = 0;
  std::size_t size_ = 0;
};

}  // namespace vm::mem::alloc::detail
