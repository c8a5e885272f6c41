#pragma once
/// \file
/// The one page-table walk. Bounded by construction: every step goes one level down, and no entry is read that does not
/// lie inside a region of guest memory.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vm/mem/guest/region.hpp"
#include "vm/mem/paging/format.hpp"

namespace vm::mem::paging {

/// Table reads with the last region remembered: consecutive tables mostly lie in the same one. Not for sharing between
/// threads; a copy costs four words.
class TableReader {
 public:
  explicit TableReader(const RegionTable& table) noexcept : table_(&table) {}

  /// Host address of [paddr, paddr + size) or nullptr.
  const std::byte* at(std::uint64_t paddr, std::uint64_t size) noexcept {
    const std::uint64_t offset = paddr - base_;
    if (offset < size_ && size <= size_ - offset) return host_ + offset;
    return find(paddr, size);
  }
  const RegionTable& table() const noexcept { return *table_; }

 private:
  const std::byte* find(std::uint64_t paddr, std::uint64_t size) noexcept {
    const Region* region = table_->find(paddr);
    if (region == nullptr) return nullptr;
    base_ = region->base;
    size_ = region->size;
    host_ = region->host;
    const std::uint64_t offset = paddr - base_;
    return size <= size_ - offset ? host_ + offset : nullptr;
  }

  const RegionTable* table_;
  std::uint64_t base_ = 0;
  std::uint64_t size_ = 0;
  const std::byte* host_ = nullptr;
};

/// Reads one entry as the hardware would: in one access when it is aligned on the host too. Images with odd file
/// offsets are never written by another thread, so the bytewise copy is enough for them. Acquire: whoever asks after a
/// walk whether a flush has begun asks after the tables were read.
template <class Entry>
inline Entry load_entry(const std::byte* at) noexcept {
  Entry value;
  if ((reinterpret_cast<std::uintptr_t>(at) & (sizeof(Entry) - 1)) == 0) {
    __atomic_load(reinterpret_cast<const Entry*>(at), &value, __ATOMIC_ACQUIRE);
  } else {
    std::memcpy(&value, at, sizeof value);
  }
  return value;
}

/// Replaces `expected` by `desired`; false when the entry has changed meanwhile.
template <class Entry>
inline bool replace_entry(std::byte* at, Entry expected, Entry desired) noexcept {
  if ((reinterpret_cast<std::uintptr_t>(at) & (sizeof(Entry) - 1)) == 0)
    return __atomic_compare_exchange_n(reinterpret_cast<Entry*>(at), &expected, desired, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED);
  Entry now;
  std::memcpy(&now, at, sizeof now);
  if (now != expected) return false;
  std::memcpy(at, &desired, sizeof desired);
  return true;
}

/// Where a walk found its entries, for A/D updates and for caches of tables.
struct WalkPath {
  std::uint64_t entry_at[max_levels] = {};    ///< by level: physical address of the entry
  std::uint64_t entry[max_levels] = {};       ///< by level: its value
  std::uint64_t table[max_levels] = {};       ///< by level: physical address of the table
  std::uint32_t allowances[max_levels] = {};  ///< by level: what the tables above leave
  int top = 0;
};

/// A walk that can stop between levels, so that many of them can be interleaved. The answer is `result()` once `step`
/// or `begin` has returned true.
template <class Format>
class WalkCursor {
 public:
  using Entry = typename Format::Entry;

  /// Finds the top table; true when that already is a fault.
  bool begin(const Format& format, TableReader& memory, std::uint64_t vaddr) noexcept {
    const Start start = format.start(vaddr);
    result_ = Translation{};
    result_.vaddr = vaddr;
    result_.level = static_cast<std::int8_t>(start.level);
    result_.reason = start.reason;
    allowances_ = all_allowances;
    return start.reason != FaultReason::none || locate(memory, start.table, start.index_mask);
  }

  /// Begins at a table below the top that an earlier walk of the same address range went through.
  bool resume(TableReader& memory, std::uint64_t vaddr, int level, const WalkTable& from) noexcept {
    result_ = Translation{};
    result_.vaddr = vaddr;
    result_.level = static_cast<std::int8_t>(level);
    allowances_ = from.allowances;
    return locate(memory, from.table, low_bits(Format::index_bits));
  }

  /// Reads the entry at hand and acts on it; true when the walk is over.
  bool step(const Format& format, TableReader& memory, Access access, Privilege privilege) noexcept {
    const int level = result_.level;
    entry_ = load_entry<Entry>(host_);
    const Step step = format.decode(entry_, level);
    if (step.reason != FaultReason::none) {
      result_.reason = step.reason;
      return true;
    }
    if (step.leaf) {
      result_.rights = format.leaf_rights(entry_, allowances_);
      result_.reason = format.authorize(entry_, result_.rights, access, privilege);
      result_.size_log2 = step.size_log2;
      result_.paddr = step.address | (result_.vaddr & low_bits(step.size_log2));
      return true;
    }
    allowances_ &= format.table_allowances(entry_, level);
    --result_.level;
    return locate(memory, step.address, low_bits(Format::index_bits));
  }

  const Translation& result() const noexcept { return result_; }
  /// Host address of the entry that `step` will read; prefetch it.
  const std::byte* host() const noexcept { return host_; }
  Entry entry() const noexcept { return entry_; }
  std::uint64_t entry_at() const noexcept { return entry_at_; }
  std::uint64_t table() const noexcept { return table_; }
  /// What the tables above the current one leave.
  std::uint32_t allowances() const noexcept { return allowances_; }

 private:
  bool locate(TableReader& memory, std::uint64_t table, std::uint64_t index_mask) noexcept {
    table_ = table;
    entry_at_ = table + (result_.vaddr >> level_shift<Format>(result_.level) & index_mask) * sizeof(Entry);
    host_ = memory.at(entry_at_, sizeof(Entry));
    if (host_ == nullptr) result_.reason = FaultReason::table_unreachable;
    return host_ == nullptr;
  }

  Translation result_;
  std::uint64_t table_ = 0;
  std::uint64_t entry_at_ = 0;
  const std::byte* host_ = nullptr;
  Entry entry_ = 0;
  std::uint32_t allowances_ = all_allowances;
};

/// Walks without changing memory. `path`, when given, is filled down to the level that answered. `from`, when given,
/// begins the walk at level `from_level`.
template <class Format>
Translation walk(const Format& format, TableReader& memory, std::uint64_t vaddr, Access access, Privilege privilege,
                 WalkPath* path = nullptr, const WalkTable* from = nullptr, int from_level = 0) noexcept {
  WalkCursor<Format> cursor;
  bool done = from != nullptr ? cursor.resume(memory, vaddr, from_level, *from) : cursor.begin(format, memory, vaddr);
  const auto enter = [&] {
    const int level = cursor.result().level;
    path->entry_at[level] = cursor.entry_at();
    path->table[level] = cursor.table();
    path->allowances[level] = cursor.allowances();
  };
  if (path == nullptr) {
    while (!done) done = cursor.step(format, memory, access, privilege);
    return cursor.result();
  }
  path->top = cursor.result().level;
  enter();
  while (!done) {
    const int level = cursor.result().level;
    done = cursor.step(format, memory, access, privilege);
    path->entry[level] = cursor.entry();
    if (cursor.result().level != level) enter();
  }
  return cursor.result();
}

/// Walks and, when the translation succeeds, writes the A and D flags that hardware would write. An entry that another
/// thread changes in between is walked again, but not for ever: against a guest that never stops changing it, the flags
/// stay behind. Flags in read-only memory are left as they are.
/// `path` and `from` are as for `walk`; the path has the entries as they were read.
template <class Format>
Translation walk_and_mark(const Format& format, TableReader& memory, std::uint64_t vaddr, Access access,
                          Privilege privilege, WalkPath& path, const WalkTable* from = nullptr,
                          int from_level = 0) noexcept {
  using Entry = typename Format::Entry;
  constexpr int attempts = 16;
  Translation result;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    result = walk(format, memory, vaddr, access, privilege, &path, from, from_level);
    if (!result.ok() || access == Access::none) break;
    bool raced = false;
    for (int level = path.top; level >= result.level && !raced; --level) {
      const auto before = static_cast<Entry>(path.entry[level]);
      const Entry after =
          level == result.level ? format.accessed_leaf(before, access) : format.accessed_table(before, level);
      if (after == before) continue;
      std::byte* host = memory.table().writable_at(path.entry_at[level], sizeof(Entry));
      if (host != nullptr) raced = !replace_entry(host, before, after);
    }
    if (!raced) break;
  }
  return result;
}

}  // namespace vm::mem::paging
