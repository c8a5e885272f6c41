#pragma once
/// \file
/// Which frames hold page tables.

#include <algorithm>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <vector>

#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/walker.hpp"

namespace vm::mem::paging {

/// The frames of all tables that a walk can reach. Last-level tables are not read, so this is fast: 64 GiB of 4 KiB
/// pages are 64 tables to read. Throws ResourceExhausted when tables that point at each other make it too many.
template <class F>
std::unordered_set<std::uint64_t> reachable_tables(const F& format, const RegionTable& memory) {
  using Entry = typename F::Entry;
  constexpr std::size_t most_tables = std::size_t{1} << 22;  // 8 TiB of 4 KiB pages
  struct Visit {
    std::uint64_t table;
    int level;
    std::uint64_t entries;
  };
  std::unordered_set<std::uint64_t> frames;
  std::unordered_set<std::uint64_t> seen;
  std::vector<Visit> pending;
  const auto visit_once = [&](const Visit& visit) {
    // Last-level tables are not read, the same table at two levels is; tables begin at multiples of 16.
    if (visit.level > 0 && seen.insert(visit.table | static_cast<std::uint64_t>(visit.level)).second)
      pending.push_back(visit);
  };

  VirtualRange ranges[2];
  const int count = format.ranges(ranges);
  for (int i = 0; i < count; ++i) {
    const Start start = format.start(ranges[i].first);
    frames.insert(align_down(start.table, std::uint64_t{1} << F::page_shift));
    visit_once({start.table, start.level, start.index_mask + 1});
  }
  TableReader reader(memory);
  while (!pending.empty()) {
    const Visit visit = pending.back();
    pending.pop_back();
    for (std::uint64_t i = 0; i < visit.entries; ++i) {
      const std::byte* host = reader.at(visit.table + i * sizeof(Entry), sizeof(Entry));
      if (host == nullptr) continue;
      const Step step = format.decode(load_entry<Entry>(host), visit.level);
      if (step.reason != FaultReason::none || step.leaf || memory.find(step.address) == nullptr) continue;
      frames.insert(step.address);
      visit_once({step.address, visit.level - 1, low_bits(F::index_bits) + 1});
    }
    if (std::max(frames.size(), seen.size()) > most_tables)
      throw ResourceExhausted("this address space reaches more than " + std::to_string(most_tables) +
                              " page tables, too many to tell used frames from free ones");
  }
  return frames;
}

}  // namespace vm::mem::paging
