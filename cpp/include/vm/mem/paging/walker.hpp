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
/// offsets are never written by another thread, so the bytewise copy is enough for them.
template <class Entry>
inline Entry load_entry(const std::byte* at) noexcept {
  Entry value;
  if ((reinterpret_cast<std::uintptr_t>(at) & (sizeof(Entry) - 1)) == 0) {
    __atomic_load(reinterpret_cast<const Entry*>(at), &value, __ATOMIC_RELAXED);
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
  static constexpr int max_levels = 5;
  std::uint64_t table[max_levels] = {};       ///< by level: physical address of the table that was read
  std::uint64_t entry_at[max_levels] = {};    ///< by level: physical address of the entry
  std::uint64_t entry[max_levels] = {};       ///< by level: its value
  std::uint32_t allowances = all_allowances;  ///< what the tables above the answering level leave
  int top = 0;
};

/// Walks without changing memory. `path`, when given, is filled down to the level that answered.
template <class Format>
Translation walk(const Format& format, TableReader& memory, std::uint64_t vaddr, Access access, Privilege privilege,
                 WalkPath* path = nullptr) noexcept {
  using Entry = typename Format::Entry;
  Translation result;
  result.vaddr = vaddr;
  const Start start = format.start(vaddr);
  result.level = static_cast<std::int8_t>(start.level);
  result.reason = start.reason;
  if (start.reason != FaultReason::none) return result;
  if (path != nullptr) path->top = start.level;

  std::uint64_t table = start.table;
  std::uint64_t mask = start.index_mask;
  std::uint32_t allowances = all_allowances;
  for (int level = start.level;; --level) {
    const std::uint64_t index = vaddr >> level_shift<Format>(level) & mask;
    const std::uint64_t entry_at = table + index * sizeof(Entry);
    result.level = static_cast<std::int8_t>(level);
    const std::byte* host = memory.at(entry_at, sizeof(Entry));
    if (host == nullptr) {
      result.reason = FaultReason::table_unreachable;
      return result;
    }
    const auto entry = load_entry<Entry>(host);
    if (path != nullptr) {
      path->table[level] = table;
      path->entry_at[level] = entry_at;
      path->entry[level] = entry;
      path->allowances = allowances;
    }
    const Step step = format.decode(entry, level);
    if (step.reason != FaultReason::none) {
      result.reason = step.reason;
      return result;
    }
    if (step.leaf) {
      result.rights = format.leaf_rights(entry, allowances);
      result.reason = format.authorize(entry, result.rights, access, privilege);
      result.size_log2 = step.size_log2;
      result.paddr = step.address | (vaddr & low_bits(step.size_log2));
      return result;
    }
    allowances &= format.table_allowances(entry, level);
    table = step.address;
    mask = low_bits(Format::index_bits);
  }
}

/// Walks and, when the translation succeeds, writes the A and D flags that hardware would write. An entry that another
/// thread changes in between is walked again, but not for ever: against a guest that never stops changing it, the flags
/// stay behind. Flags in read-only memory are left as they are.
template <class Format>
Translation walk_and_mark(const Format& format, TableReader& memory, std::uint64_t vaddr, Access access,
                          Privilege privilege, WalkPath* path_out = nullptr) noexcept {
  using Entry = typename Format::Entry;
  constexpr int attempts = 16;
  Translation result;
  for (int attempt = 0; attempt < attempts; ++attempt) {
    WalkPath path;
    result = walk(format, memory, vaddr, access, privilege, &path);
    if (path_out != nullptr) *path_out = path;
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
