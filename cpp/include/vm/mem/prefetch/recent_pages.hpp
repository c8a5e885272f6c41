#pragma once
/// \file
/// The last so many pages of some kind, with a note about each.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vm::mem::prefetch {

/// A queue of at most `capacity` distinct pages whose members are found by hashing. A page that is there keeps its
/// place. Every operation is O(1) but for clusters of the hash, and O(capacity) at worst. Allocates when constructed
/// only.
template <class Note>
class RecentPages {
 public:
  explicit RecentPages(std::size_t capacity) : ring_(capacity), slots_(table_size(capacity), empty) {}

  std::size_t size() const noexcept { return size_; }
  std::size_t capacity() const noexcept { return ring_.size(); }

  Note* find(std::uint64_t page) noexcept {
    const std::uint32_t at = slots_[slot_of(page)];
    return at == empty ? nullptr : &ring_[at].note;
  }

  /// Adds a page that is not there. When it is full the oldest one goes: `gone(page, note)` is called with it.
  template <class Gone>
  void insert(std::uint64_t page, const Note& note, Gone&& gone) noexcept {
    Member& member = ring_[next_];
    if (member.present) {
      const Member oldest = member;
      remove_slot(slot_of(oldest.page));
      member.present = false;
      --size_;
      gone(oldest.page, oldest.note);
    }
    member = {page, note, true};
    slots_[slot_of(page)] = static_cast<std::uint32_t>(next_);
    ++size_;
    next_ = next_ + 1 == ring_.size() ? 0 : next_ + 1;
  }
  void insert(std::uint64_t page, const Note& note) noexcept {
    insert(page, note, [](std::uint64_t, const Note&) {});
  }

  /// False when it is not there. Its place in the queue stays empty until its turn.
  bool erase(std::uint64_t page) noexcept {
    const std::size_t slot = slot_of(page);
    if (slots_[slot] == empty) return false;
    ring_[slots_[slot]].present = false;
    remove_slot(slot);
    --size_;
    return true;
  }

  void clear() noexcept {
    for (Member& member : ring_) member.present = false;
    for (std::uint32_t& slot : slots_) slot = empty;
    next_ = 0;
    size_ = 0;
  }

 private:
  struct Member {
    std::uint64_t page = 0;
    Note note{};
    bool present = false;
  };
  static constexpr std::uint32_t empty = UINT32_MAX;

  /// At least twice the capacity, so that linear probing finds an empty slot soon.
  static std::size_t table_size(std::size_t capacity) noexcept {
    std::size_t size = 4;
    while (size < 2 * capacity) size *= 2;
    return size;
  }
  std::size_t home(std::uint64_t page) const noexcept {
    // Fibonacci hashing: Knuth, The Art of Computer Programming vol. 3, 6.4.
    return static_cast<std::size_t>((page * 0x9E37'79B9'7F4A'7C15U) >> 32) & (slots_.size() - 1);
  }
  /// The slot that holds `page`, or the empty one where it would go.
  std::size_t slot_of(std::uint64_t page) const noexcept {
    std::size_t slot = home(page);
    while (slots_[slot] != empty && ring_[slots_[slot]].page != page) slot = (slot + 1) & (slots_.size() - 1);
    return slot;
  }
  /// Moves later members of the cluster back, so that no search stops too early (Knuth, 6.4, Algorithm R).
  void remove_slot(std::size_t hole) noexcept {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t slot = (hole + 1) & mask; slots_[slot] != empty; slot = (slot + 1) & mask) {
      const std::size_t from = home(ring_[slots_[slot]].page);
      if (((slot - from) & mask) < ((slot - hole) & mask)) continue;
      slots_[hole] = slots_[slot];
      hole = slot;
    }
    slots_[hole] = empty;
  }

  std::vector<Member> ring_;
  std::vector<std::uint32_t> slots_;  // indices of ring_
  std::size_t next_ = 0;
  std::size_t size_ = 0;
};

}  // namespace vm::mem::prefetch
