#pragma once
/// \file
/// Enumeration of everything that a set of page tables maps.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "frames.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/region.hpp"
#include "vm/mem/paging/mapping.hpp"
#include "vm/mem/paging/walker.hpp"

namespace vm::mem::paging {

/// One pass over the tables. Bounded: a level deeper with every step, and `limit` tables at most.
template <class F>
class Enumerator {
 public:
  using Entry = typename F::Entry;

  Enumerator(const F& format, const RegionTable& memory, const EnumerateOptions& options,
             const std::function<bool()>& keep_going)
      : format_(format), reader_(memory), options_(options), keep_going_(keep_going) {}

  std::vector<Mapping> run() {
    VirtualRange ranges[2];
    const int count = format_.ranges(ranges);
    for (int i = 0; i < count && !stopped_; ++i) {
      const std::uint64_t first = std::max(options_.first, ranges[i].first);
      const std::uint64_t last = std::min(options_.last, ranges[i].last);
      if (first > last) continue;
      const Start start = format_.start(ranges[i].first);
      visit({start.table, start.level, start.index_mask, all_allowances}, first, last);
    }
    return std::move(found_);
  }

 private:
  struct Table {
    std::uint64_t address;
    int level;
    std::uint64_t index_mask;
    std::uint32_t allowances;
  };

  void visit(const Table& table, std::uint64_t first, std::uint64_t last) {
    if (!count_table()) return;
    const unsigned shift = level_shift<F>(table.level);
    const std::uint64_t end = (last >> shift & table.index_mask) + 1;
    std::uint64_t index = first >> shift & table.index_mask;
    const std::uint64_t origin = align_down(first, std::uint64_t{1} << shift) - (index << shift);
    const std::byte* host = reader_.at(table.address, (table.index_mask + 1) * sizeof(Entry));
    while (index < end && !stopped_) {
      if (host != nullptr) index = skip_empty(host, index, end);
      if (index == end) return;
      const std::uint64_t vaddr = origin + (index << shift);
      const Entry entry = load(table, index);
      const Step step = format_.decode(entry, table.level);
      index += step.reason != FaultReason::none ? 1
               : step.leaf                      ? add_leaf(table, index, entry, step, vaddr)
                                                : descend(table, entry, step, vaddr, first, last);
    }
  }

  /// Each returns how many entries it has dealt with, from `index` on.
  std::uint64_t descend(const Table& table, Entry entry, const Step& step, std::uint64_t vaddr, std::uint64_t first,
                        std::uint64_t last) {
    const std::uint32_t allowances = table.allowances & format_.table_allowances(entry, table.level);
    visit({step.address, table.level - 1, low_bits(F::index_bits), allowances}, std::max(first, vaddr),
          std::min(last, vaddr | low_bits(level_shift<F>(table.level))));
    return 1;
  }
  std::uint64_t add_leaf(const Table& table, std::uint64_t index, Entry entry, const Step& step, std::uint64_t vaddr) {
    const unsigned shift = level_shift<F>(table.level);
    const Rights rights = format_.leaf_rights(entry, table.allowances);
    if (step.size_log2 == shift) {
      add(vaddr, step.address, shift, rights);
      return 1;
    }
    // A page of several entries (Svnapot) is one page only when they agree; else each entry speaks for its own part.
    const std::uint64_t run = std::uint64_t{1} << (step.size_log2 - shift);
    const std::uint64_t run_first = align_down(index, run);
    for (std::uint64_t i = run_first; i < run_first + run; ++i) {
      const Entry other = load(table, i);
      const Step other_step = format_.decode(other, table.level);
      const bool agrees = other_step.reason == FaultReason::none && other_step.size_log2 == step.size_log2 &&
                          other_step.address == step.address && format_.leaf_rights(other, table.allowances) == rights;
      if (agrees) continue;
      add(vaddr, step.address | (vaddr & low_bits(step.size_log2)), shift, rights);
      return 1;
    }
    add(align_down(vaddr, std::uint64_t{1} << step.size_log2), step.address, step.size_log2, rights);
    return run_first + run - index;
  }

  void add(std::uint64_t vaddr, std::uint64_t paddr, unsigned size_log2, Rights rights) {
    const std::uint64_t size = std::uint64_t{1} << size_log2;
    const Access access = supervisor_access(rights);
    const Access user = user_access(rights);
    if (options_.merge && !found_.empty()) {
      Mapping& before = found_.back();
      if (before.vaddr + before.size == vaddr && before.paddr + before.size == paddr && before.page_size == size &&
          before.access == access && before.user_access == user) {
        before.size += size;
        return;
      }
    }
    if (found_.size() >= options_.limit) exceeded("mappings");
    found_.push_back({vaddr, paddr, size, size, access, user, {}});
  }

  bool count_table() {
    constexpr std::uint64_t tables_per_question = 1024;  // a millisecond or two
    if (tables_ >= options_.limit) exceeded("page tables");
    ++tables_;
    if (keep_going_ && tables_ % tables_per_question == 0 && !keep_going_()) stopped_ = true;
    return !stopped_;
  }
  [[noreturn]] void exceeded(const char* what) const {
    throw ResourceExhausted("found more than " + std::to_string(options_.limit) + " " + what + " (limit) between " +
                            hex(options_.first) + " and " + hex(options_.last) +
                            "; narrow the range, raise the limit, or check the root: tables that point at themselves "
                            "map without end");
  }

  Entry load(const Table& table, std::uint64_t index) noexcept {
    const std::byte* at = reader_.at(table.address + index * sizeof(Entry), sizeof(Entry));
    return at == nullptr ? Entry{0} : load_entry<Entry>(at);
  }
  static std::uint64_t skip_empty(const std::byte* host, std::uint64_t index, std::uint64_t end) noexcept {
    constexpr std::uint64_t line = 64 / sizeof(Entry);
    for (; index < end; ++index) {
      while (index % line == 0 && index + line <= end && is_zero(host + index * sizeof(Entry), 64)) index += line;
      if (index < end && load_entry<Entry>(host + index * sizeof(Entry)) != 0) return index;
    }
    return end;
  }

  const F& format_;
  TableReader reader_;
  const EnumerateOptions& options_;
  const std::function<bool()>& keep_going_;
  std::vector<Mapping> found_;
  std::uint64_t tables_ = 0;
  bool stopped_ = false;
};

/// Leaf mappings in ascending order; pages that overlap [options.first, options.last] are reported whole. Entries that
/// would fault for every access (malformed ones, tables outside memory) are left out, as absent ones are. `keep_going`
/// is asked now and then; false ends with what was found. Throws ResourceExhausted beyond `options.limit` mappings or
/// tables.
template <class F>
std::vector<Mapping> enumerate(const F& format, const RegionTable& memory, const EnumerateOptions& options,
                               const std::function<bool()>& keep_going) {
  return Enumerator<F>(format, memory, options, keep_going).run();
}

}  // namespace vm::mem::paging
