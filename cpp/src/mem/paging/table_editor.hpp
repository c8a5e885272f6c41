#pragma once
/// \file
/// Page tables open for change. Every store can be taken back, so that a change which meets an obstacle half-way leaves
/// memory as it was, byte for byte.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "frames.hpp"
#include "journal.hpp"
#include "reachable.hpp"
#include "requests.hpp"
#include "vm/core/address.hpp"
#include "vm/mem/paging/walker.hpp"

namespace vm::mem::paging {

/// The path from the root to the table at hand, and what was done so far. Destroyed without `commit`, it undoes it all.
/// Table frames that left the tree are reused only after `commit`.
template <class F>
class TableEditor {
 public:
  using Entry = typename F::Entry;
  static constexpr std::uint64_t frame_size = std::uint64_t{1} << F::page_shift;

  /// `what` names the operation in messages: "map".
  TableEditor(const F& format, const RegionTable& memory, TableFrames& frames, const char* what) noexcept
      : format_(format), memory_(memory), frames_(frames), what_(what) {}
  TableEditor(const TableEditor&) = delete;
  TableEditor& operator=(const TableEditor&) = delete;
  ~TableEditor() {
    if (!committed_) undo();
  }

  void commit() noexcept {
    committed_ = true;
    for (const std::uint64_t frame : unlinked_) {
      if (frames_.owns(frame))
        frames_.give_back(frame);
      else
        frames_.forget();
    }
  }

  /// Opens the top table for `vaddr`, which must exist. False when it lies outside memory.
  bool open_root(std::uint64_t vaddr) {
    const Start start = format_.start(vaddr);
    top_ = start.level;
    path_[top_].allowances = all_allowances;
    return open(top_, start.table, start.index_mask, vaddr);
  }
  int top() const noexcept { return top_; }

  Entry load(int level, std::uint64_t index) const noexcept {
    return load_entry<Entry>(path_[level].host + index * sizeof(Entry));
  }
  void store(int level, std::uint64_t index, Entry before, Entry after) {
    require_writable(level, index);
    const Table& table = path_[level];
    std::byte* at = table.host + index * sizeof(Entry);
    if (table.fresh)
      store_entry(at, after);
    else
      journal_.store(at, before, after);
  }
  std::uint64_t entry_at(int level, std::uint64_t index) const noexcept {
    return path_[level].address + index * sizeof(Entry);
  }
  /// What the tables above leave to the entries of this one.
  std::uint32_t allowances(int level) const noexcept { return path_[level].allowances; }
  bool empty(int level) const noexcept { return is_zero(path_[level].host, bytes_of(path_[level].index_mask)); }

  /// Calls `visit(index, first, last)` for every entry of the table at `level` that translates some of [first, last],
  /// with the part of the range that it translates.
  template <class Visit>
  void for_each_entry(int level, std::uint64_t first, std::uint64_t last, Visit visit) const {
    const unsigned shift = level_shift<F>(level);
    for (;;) {
      const std::uint64_t piece_last = std::min(first | low_bits(shift), last);
      visit(first >> shift & path_[level].index_mask, first, piece_last);
      if (piece_last == last) return;
      first = piece_last + 1;
    }
  }
  /// Does [first, last], a part of one entry's range, cover all of it?
  static bool covers_entry(int level, std::uint64_t first, std::uint64_t last) noexcept {
    return last - first == low_bits(level_shift<F>(level));
  }

  /// Opens the table that entry `index` points to. False when it lies outside memory.
  bool enter(int level, std::uint64_t index, Entry entry, std::uint64_t child, std::uint64_t vaddr) {
    path_[level].index = index;
    path_[level - 1].allowances = path_[level].allowances & format_.table_allowances(entry, level);
    return open(level - 1, child, low_bits(F::index_bits), vaddr);
  }
  /// Opens a new table below entry `index`, without storing the entry that points to it. Returns its frame.
  std::uint64_t enter_new(int level, std::uint64_t index, std::uint64_t vaddr) {
    require_writable(level, index);
    path_[level].index = index;
    path_[level - 1].allowances = path_[level].allowances;
    const std::uint64_t frame = allocate();
    open(level - 1, frame, low_bits(F::index_bits), vaddr);
    path_[level - 1].fresh = true;
    return frame;
  }
  /// As `enter_new`, with the parts of a larger page in it. Its entry still is that page. Call `grant` before, if at
  /// all: it would change the page, but not the parts.
  std::uint64_t enter_split(int level, std::uint64_t index, Entry leaf, std::uint64_t vaddr) {
    const std::uint64_t last = format_.decode(leaf, level).address | low_bits(level_shift<F>(level));
    const unsigned bits = format_.physical_bits(level - 1);
    if (last > low_bits(bits)) refuse_paddr(last, std::uint64_t{1} << level_shift<F>(level - 1), bits);
    const std::uint64_t frame = enter_new(level, index, vaddr);
    for (unsigned i = 0; i <= low_bits(F::index_bits); ++i) store(level - 1, i, 0, format_.split(leaf, level, i));
    return frame;
  }
  /// Removes the entry that points to the table `child`.
  void unlink(int level, std::uint64_t index, Entry entry, std::uint64_t child) {
    unlinked_.push_back(child);
    store(level, index, entry, 0);
  }

  /// Is the leaf for `vaddr` part of a run (Svnapot, contiguous bit) that reaches beyond [first, last]?
  bool leaves_run(int level, Entry leaf, std::uint64_t vaddr, std::uint64_t first, std::uint64_t last) const noexcept {
    const std::uint64_t entries = format_.run_length(leaf, level);
    if (entries == 1) return false;
    const std::uint64_t size = entries << level_shift<F>(level);
    const std::uint64_t begin = align_down(vaddr, size);
    return begin < first || begin + (size - 1) > last;
  }
  /// Turns the run of entries that `index` belongs to (Svnapot, contiguous bit) into leaves of their own. Returns
  /// what the entry at `index` has become.
  Entry detach_run(int level, std::uint64_t index, Entry entry) {
    const unsigned run = format_.run_length(entry, level);
    const std::uint64_t first = align_down(index, run);
    const std::uint64_t last = std::min(first + run - 1, path_[level].index_mask);
    for (std::uint64_t i = first; i <= last; ++i) {
      const Entry member = load(level, i);
      const Step step = format_.decode(member, level);
      if (step.reason == FaultReason::none && step.leaf && format_.run_length(member, level) == run)
        store(level, i, member, format_.detach(member, static_cast<unsigned>(i - first)));
    }
    return load(level, index);
  }

  /// Sees to it that `leaf`, once stored at `level`, grants `access`. A table entry above that forbids it hands its
  /// restriction to all entries of its table before it gives it up, so that nothing else gains or loses rights.
  /// Returns true when tables changed.
  bool grant(int level, Entry leaf, Access access, bool user) {
    if (grants(leaf, path_[level].allowances, access, user)) return false;
    if (!grants(leaf, all_allowances, access, user)) refuse_access(what_, access, user);
    for (int above = top_; above > level; --above) {
      std::uint32_t left = all_allowances;
      if (!path_[above - 1].fresh) {  // else nothing points there yet, and what will point there restricts nothing
        const Entry entry = load(above, path_[above].index);
        if (!grants(leaf, format_.table_allowances(entry, above), access, user)) push_down(above, entry);
        left = format_.table_allowances(load(above, path_[above].index), above);
      }
      path_[above - 1].allowances = path_[above].allowances & left;
    }
    return true;
  }

 private:
  struct Table {
    std::uint64_t address = 0;
    std::byte* host = nullptr;
    std::uint64_t index_mask = 0;
    std::uint64_t index = 0;  ///< of the entry that leads to the table below
    bool writable = false;
    bool fresh = false;  ///< not linked yet: nobody sees its entries, and there is nothing to put back
    std::uint32_t allowances = all_allowances;
  };
  static constexpr std::uint64_t most_visits = std::uint64_t{1} << 20;  // 2 TiB of 4 KiB pages
  static constexpr std::uint64_t no_frame = UINT64_MAX;

  static constexpr std::uint64_t bytes_of(std::uint64_t index_mask) noexcept {
    return (index_mask + 1) * sizeof(Entry);
  }

  void require_writable(int level, std::uint64_t index) const {
    if (!path_[level].writable) refuse_read_only(entry_at(level, index), memory_);
  }
  bool grants(Entry leaf, std::uint32_t allowed, Access access, bool user) const noexcept {
    const Rights rights = format_.leaf_rights(leaf, allowed);
    return has(user ? user_access(rights) : supervisor_access(rights), access);
  }

  bool open(int level, std::uint64_t address, std::uint64_t index_mask, std::uint64_t vaddr) {
    for (int above = level + 1; above <= top_; ++above)
      if (align_down(path_[above].address, frame_size) == address)
        refuse_table(vaddr, address,
                     "is also one of the tables above it; entries of it cannot be changed on their own");
    if (++visits_ > most_visits) refuse_visits(what_, most_visits);
    const std::uint64_t size = bytes_of(index_mask);
    const Region* region = memory_.find(address);
    Table& table = path_[level];
    table.fresh = false;
    if (region == nullptr || size > region->size - (address - region->base)) {
      for (const Region& part : memory_.regions())
        if (part.base - address < size || address - part.base < part.size)
          refuse_table(vaddr, address, "does not lie in one memory region as a whole");
      return false;
    }
    table.address = address;
    table.host = region->host + (address - region->base);
    table.index_mask = index_mask;
    table.writable = region->writable;
    return true;
  }

  std::uint64_t allocate() {
    if (!frames_.knows_tables()) {
      std::unordered_set<std::uint64_t> tables = reachable_tables(format_, memory_);
      // No longer reachable, but `undo` may want them back.
      tables.insert(unlinked_.begin(), unlinked_.end());
      frames_.learn(std::move(tables));
    }
    taken_.push_back(no_frame);
    taken_.back() = frames_.take(memory_, {frame_size, low_bits(format_.physical_bits(0))});
    return taken_.back();
  }

  void push_down(int level, Entry entry) {
    const std::uint32_t left = format_.table_allowances(entry, level);
    for (std::uint64_t i = 0; i <= path_[level - 1].index_mask; ++i) {
      const Entry before = load(level - 1, i);
      const Step step = format_.decode(before, level - 1);
      if (step.reason != FaultReason::none) continue;
      const Entry after = format_.restrict_entry(before, step.leaf, left);
      if (after != before) store(level - 1, i, before, after);
    }
    store(level, path_[level].index, entry, format_.unrestricted_table(entry, level));
  }

  void undo() noexcept {
    journal_.undo();
    for (const std::uint64_t frame : taken_) {
      if (frame == no_frame) continue;
      std::memset(memory_.writable_at(frame, frame_size), 0, frame_size);
      frames_.give_back(frame);
    }
  }

  const F& format_;
  const RegionTable& memory_;
  TableFrames& frames_;
  const char* what_;
  bool committed_ = false;
  int top_ = 0;
  Table path_[max_levels];
  std::uint64_t visits_ = 0;
  Journal<Entry> journal_;
  std::vector<std::uint64_t> taken_;
  std::vector<std::uint64_t> unlinked_;
};

}  // namespace vm::mem::paging
