#pragma once
/// \file
/// Stores into page tables that can be taken back.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace vm::mem::paging {

/// Writes one entry as software on the guest would: in one access, after everything written before it, so that a walk
/// on another thread sees a table filled before it sees the entry that points to it. Pairs with the address dependency
/// of a walk. Images with odd file offsets are bytewise, as in `load_entry`.
template <class Entry>
inline void store_entry(std::byte* at, Entry value) noexcept {
  if ((reinterpret_cast<std::uintptr_t>(at) & (sizeof(Entry) - 1)) == 0) {
    __atomic_store_n(reinterpret_cast<Entry*>(at), value, __ATOMIC_RELEASE);
  } else {
    std::memcpy(at, &value, sizeof value);
  }
}

/// Remembers what stores replaced. Neighbouring entries, the common case, cost no more than their own size.
template <class Entry>
class Journal {
 public:
  void store(std::byte* at, Entry before, Entry after) {
    if (runs_.empty() || runs_.back().first + runs_.back().count * sizeof(Entry) != at) runs_.push_back({at, 0});
    before_.push_back(before);
    ++runs_.back().count;
    store_entry(at, after);
  }

  /// Puts everything back, last store first.
  void undo() noexcept {
    while (!runs_.empty()) {
      for (Run& run = runs_.back(); run.count > 0; before_.pop_back())
        store_entry(run.first + --run.count * sizeof(Entry), before_.back());
      runs_.pop_back();
    }
  }

 private:
  struct Run {
    std::byte* first;
    std::size_t count;
  };
  std::vector<Run> runs_;
  std::vector<Entry> before_;
};

}  // namespace vm::mem::paging
