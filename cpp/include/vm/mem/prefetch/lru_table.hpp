#pragma once
/// \file
/// The table that stride, distance and Markov prefetchers are made of.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vm::mem::prefetch {

/// `rows` rows in sets of `ways`, found by a key, the least recently used row of a set replaced. The set is
/// key % (rows / ways), as in the papers: neighbouring keys do not push each other out. Allocates when constructed
/// only.
template <class Row>
class LruTable {
 public:
  /// `rows` is a multiple of `ways`; each row begins as a copy of `blank`, and is one again when its key changes.
  LruTable(std::size_t rows, std::size_t ways, const Row& blank)
      : blank_(blank), sets_(rows / ways), ways_(ways), keys_(rows), used_(rows), rows_(rows, blank) {}

  /// The row of `key`, or nullptr. Makes it the most recently used of its set.
  Row* find(std::uint64_t key) noexcept {
    const std::size_t first = first_of(key);
    for (std::size_t i = first; i < first + ways_; ++i) {
      if (keys_[i] == key && used_[i] != 0) {
        used_[i] = ++clock_;
        return &rows_[i];
      }
    }
    return nullptr;
  }

  /// As `find`, and makes a blank row when there is none.
  Row& find_or_make(std::uint64_t key) noexcept {
    if (Row* row = find(key)) return *row;
    const std::size_t first = first_of(key);
    std::size_t oldest = first;
    for (std::size_t i = first + 1; i < first + ways_; ++i)
      if (used_[i] < used_[oldest]) oldest = i;
    keys_[oldest] = key;
    used_[oldest] = ++clock_;
    rows_[oldest] = blank_;
    return rows_[oldest];
  }

  void clear() noexcept {
    for (std::uint64_t& used : used_) used = 0;
    clock_ = 0;
  }

 private:
  std::size_t first_of(std::uint64_t key) const noexcept { return static_cast<std::size_t>(key % sets_) * ways_; }

  Row blank_;
  std::size_t sets_;
  std::size_t ways_;
  std::vector<std::uint64_t> keys_;
  std::vector<std::uint64_t> used_;  // 0: no such row
  std::vector<Row> rows_;
  std::uint64_t clock_ = 0;
};

/// What followed a page or a distance, most recent first.
struct Successors {
  static constexpr std::size_t capacity = 8;

  std::uint64_t values[capacity] = {};
  std::uint8_t count = 0;

  /// Puts `value` first; the least recent one goes when there are more than `slots` of them.
  void record(std::uint64_t value, std::size_t slots) noexcept {
    std::size_t at = 0;
    while (at < count && values[at] != value) ++at;
    if (at == count) {
      if (count < slots) ++count;
      at = count - std::size_t{1};
    }
    for (; at > 0; --at) values[at] = values[at - 1];
    values[0] = value;
  }
};

}  // namespace vm::mem::prefetch
