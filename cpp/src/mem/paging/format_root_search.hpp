#pragma once
/// \file
/// The search for roots of one format. Bounded by construction: a table is examined once per level, entries lead only
/// downwards, and no more than `max_tables` tables are ever remembered.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "root_search.hpp"
#include "vm/mem/paging/translation.hpp"
#include "vm/mem/paging/walker.hpp"

namespace vm::mem::paging {

template <class Format>
class FormatRootSearch final : public RootSearch {
 public:
  using Entry = typename Format::Entry;
  using Config = typename Format::Config;

  FormatRootSearch(const RegionTable& memory, const Config& config)
      : config_(config), format_(for_scan(config)), reader_(memory) {
    const auto& regions = memory.regions();
    if (!regions.empty()) highest_ = std::max(highest_, regions.back().last());
    add_shapes();
  }

  void collect(std::uint64_t first, std::uint64_t last) override {
    for (Shape& shape : shapes_) {
      const std::uint64_t bytes = shape.entries * sizeof(Entry);
      const std::uint64_t skip = (bytes - first % bytes) % bytes;
      const std::uint64_t top = std::min(last, highest_root());
      if (top < first || skip > top - first) continue;
      for (std::uint64_t root = first + skip;; root += bytes) {
        const std::byte* host = reader_.at(root, bytes);
        if (host != nullptr && shape.roots.size() < max_roots && look(host, shape.level, shape.entries).root())
          shape.roots.push_back(root);
        if (top - root < bytes) break;
      }
    }
  }

  std::vector<FoundRoot> rank(const std::function<bool()>& keep_going) override {
    keep_going_ = &keep_going;
    std::vector<FoundRoot> best;
    for (std::size_t shape = 0; shape < shapes_.size() && !stopped_; ++shape) {
      std::vector<FoundRoot> found;
      for (const std::uint64_t root : shapes_[shape].roots) {
        FoundRoot candidate = follow(shapes_[shape], root);
        candidate.shape = shape;
        if (candidate.candidate.pages != 0) found.push_back(std::move(candidate));
        if (found.size() >= 2 * max_ranked) keep_best(found);
        if (stopped_) break;
      }
      keep_best(found);
      count_shared(shapes_[shape], found);
      best.insert(best.end(), std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
    }
    facts_.clear();
    return best;
  }

  void relate(const std::vector<std::uint64_t>& roots, const std::vector<FoundRoot*>& found,
              const std::function<bool()>& keep_going) override {
    keep_going_ = &keep_going;
    ranked_ = &roots;
    for (FoundRoot* f : found) {
      const Shape& shape = shapes_[f->shape];
      const Below below =
          look_below(reader_.at(f->candidate.root, shape.entries * sizeof(Entry)), shape.level, shape.entries);
      f->tables = below.tables;
      f->candidate.maps_itself = below.mapped.test(position_of(f->candidate.root));
      f->candidate.score = score_root(f->candidate);
    }
    below_.clear();
  }

 private:
  static constexpr std::size_t max_tables = std::size_t{1} << 18;
  static constexpr std::size_t max_roots = std::size_t{1} << 20;
  static constexpr bool two_roots = std::is_same_v<Config, AArch64Config>;

  /// A geometry of top tables, with the places that look like one.
  struct Shape {
    int level = 0;
    std::uint64_t entries = 0;
    bool lower = true;  ///< such a table translates the lower half of the address space
    bool upper = true;
    std::vector<std::uint64_t> roots;
  };

  /// One table by itself.
  struct Look {
    std::uint32_t present = 0;
    std::uint32_t bad = 0;
    /// Page tables are written by kernels and read by processors: an error in one is rare. Some slack, because memory
    /// may have been dumped while the guest ran, and because devices can be mapped above all memory.
    bool broken() const noexcept { return bad * 8 > present; }
    bool root() const noexcept { return present != 0 && !broken(); }
  };

  /// A table and everything below it.
  struct Facts {
    std::uint64_t tables = 0;         ///< not counting empty ones
    std::uint64_t broken_tables = 0;  ///< of them; nothing below them is followed
    std::uint64_t empty_tables = 0;
    std::uint64_t pages = 0;
    std::uint64_t accessed_pages = 0;
    std::uint64_t supervisor_pages = 0;
    std::uint64_t mapped_bytes = 0;

    void add(const Facts& below) noexcept {
      tables += below.tables;
      broken_tables += below.broken_tables;
      empty_tables += below.empty_tables;
      pages += below.pages;
      accessed_pages += below.accessed_pages;
      supervisor_pages += below.supervisor_pages;
      mapped_bytes += below.mapped_bytes;
    }
  };

  // The flags that hardware sets are told from the others by asking a format that lets hardware set them.
  static Config for_scan(Config config) {
    if constexpr (std::is_same_v<Config, AArch64Config>) {
      config.ttbr0 = config.ttbr1 = 0;
      config.tcr |= std::uint64_t{1} << 39;  // TCR_EL1.HA
    } else {
      config.root = 0;
    }
    if constexpr (std::is_same_v<Config, RiscVConfig>) config.svadu = true;
    return config;
  }

  void add_shapes() {
    VirtualRange ranges[2];
    const int count = format_.ranges(ranges);
    for (int i = 0; i < count; ++i) {
      const Start start = format_.start(ranges[i].last);
      const bool upper = test_bit(ranges[i].last, 63);
      const std::uint64_t entries = start.index_mask + 1;
      if (!shapes_.empty() && shapes_[0].level == start.level && shapes_[0].entries == entries) {
        shapes_[0].upper = true;
      } else {
        shapes_.push_back({start.level, entries, !two_roots || !upper, !two_roots || upper, {}});
      }
    }
  }

  std::uint64_t highest_root() const noexcept {
    if constexpr (std::is_same_v<Config, X86Config>) {
      if (config_.levels < 4) return low_bits(32);  // CR3 outside long mode
    }
    return low_bits(format_.physical_bits(0));
  }

  static constexpr std::uint64_t table_entries = std::uint64_t{1} << Format::index_bits;
  static constexpr std::uint64_t table_bytes = table_entries * sizeof(Entry);

  Look look(const std::byte* host, int level, std::uint64_t entries) noexcept {
    Look found;
    for (std::uint64_t i = 0; i < entries; ++i) {
      const auto entry = load_entry<Entry>(host + i * sizeof(Entry));
      if (entry == 0) continue;
      const Step step = format_.decode(entry, level);
      if (step.reason == FaultReason::not_present) {
        if (level > 0) ++found.bad;  // in the last level, kernels keep notes about swapped pages there
      } else {
        ++found.present;
        const bool good = step.reason == FaultReason::none &&
                          (step.leaf ? step.address <= highest_ : reader_.at(step.address, table_bytes) != nullptr);
        if (!good) ++found.bad;
      }
      if (found.bad * 8 > entries) return {0, found.bad};  // whatever the rest holds
    }
    return found;
  }

  Facts leaf_facts(Entry entry, const Step& step) const noexcept {
    const std::uint64_t size = std::uint64_t{1} << step.size_log2;
    const bool user = user_access(format_.leaf_rights(entry, all_allowances)) != Access::none;
    const bool accessed = format_.accessed_leaf(entry, Access::read) == entry;
    return {0, 0, 0, 1, accessed ? 1U : 0U, user ? 0U : 1U, size};
  }

  /// Calls leaf(entry, step) and table(step, slot) for the usable entries of a table.
  template <class OnLeaf, class OnTable>
  void for_each(const std::byte* host, int level, std::uint64_t entries, OnLeaf leaf, OnTable table) {
    for (std::uint64_t i = 0; i < entries && !stopped_; ++i) {
      const auto entry = load_entry<Entry>(host + i * sizeof(Entry));
      const Step step = format_.decode(entry, level);
      if (step.reason != FaultReason::none) continue;
      if (step.leaf) {
        leaf(entry, step, i);
      } else {
        table(step, i);
      }
    }
  }

  Facts examine(std::uint64_t table, int level) {
    const std::uint64_t key = table | static_cast<std::uint64_t>(level);  // tables are aligned to far more than 8
    if (const auto known = facts_.find(key); known != facts_.end()) return known->second;
    const std::byte* host = reader_.at(table, table_bytes);
    if (host == nullptr || facts_.size() >= max_tables) return {};
    poll();
    const Look found = look(host, level, table_entries);
    Facts facts;
    if (found.broken()) {
      facts.tables = facts.broken_tables = 1;
    } else if (found.present == 0) {
      facts.empty_tables = 1;
    } else {
      facts.tables = 1;
      for_each(
          host, level, table_entries,
          [&](Entry entry, const Step& step, std::uint64_t) { facts.add(leaf_facts(entry, step)); },
          [&](const Step& step, std::uint64_t) { facts.add(examine(step.address, level - 1)); });
    }
    facts_.emplace(key, facts);
    return facts;
  }

  FoundRoot follow(const Shape& shape, std::uint64_t root) {
    Facts lower;
    Facts upper;
    FoundRoot found;
    RootCandidate& c = found.candidate;
    const auto half = [&](std::uint64_t slot) -> Facts& { return slot >= kernel_slot(shape) ? upper : lower; };
    for_each(
        reader_.at(root, shape.entries * sizeof(Entry)), shape.level, shape.entries,
        [&](Entry entry, const Step& step, std::uint64_t slot) {
          ++c.entries;
          half(slot).add(leaf_facts(entry, step));
        },
        [&](const Step& step, std::uint64_t slot) {
          ++c.entries;
          c.self_referring |= step.address == root;
          half(slot).add(examine(step.address, shape.level - 1));
        });
    c.kernel_pages = upper.supervisor_pages;
    upper.add(lower);
    const bool kernel = upper.supervisor_pages * 2 >= upper.pages;
    c.config = with_root(root, shape.upper && (kernel || !shape.lower));
    c.root = root;
    c.tables = upper.tables + 1;
    c.broken_tables = upper.broken_tables;
    c.empty_tables = upper.empty_tables;
    c.pages = upper.pages;
    c.user_pages = upper.pages - upper.supervisor_pages;
    c.accessed_pages = upper.accessed_pages;
    c.mapped_bytes = upper.mapped_bytes;
    c.table_of = no_address;
    c.score = score_root(c);
    return found;
  }

  /// Where the kernel's part of a top table begins: in the upper half, or everywhere when each half has its own root.
  static std::uint64_t kernel_slot(const Shape& shape) noexcept { return two_roots ? 0 : shape.entries / 2; }

  PagingConfig with_root(std::uint64_t root, bool upper) const {
    Config config = config_;
    if constexpr (std::is_same_v<Config, AArch64Config>) {
      constexpr std::uint64_t disable_lower = std::uint64_t{1} << 7;  // TCR_EL1.EPD0
      constexpr std::uint64_t disable_upper = std::uint64_t{1} << 23;
      const std::uint64_t high = root >> 48 << 2;  // FEAT_LPA keeps bits 51:48 of the address in 5:2
      config.ttbr0 = upper ? 0 : root | high;
      config.ttbr1 = upper ? root | high : 0;
      config.tcr |= upper ? disable_lower : disable_upper;
    } else {
      config.root = root;
    }
    return config;
  }

  static void keep_best(std::vector<FoundRoot>& found) {
    const std::size_t kept = std::min(found.size(), max_ranked);
    std::partial_sort(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(kept), found.end(), ranks_before);
    found.resize(kept);
  }

  /// Counts the entries of the kernel's part that occur in the same slot of another candidate.
  void count_shared(const Shape& shape, std::vector<FoundRoot>& found) {
    std::unordered_map<std::uint64_t, std::uint32_t> seen;
    for (const FoundRoot& f : found)
      for_each_kernel_table(shape, f.candidate.root, [&](std::uint64_t key) { ++seen[key]; });
    for (FoundRoot& f : found) {
      RootCandidate& c = f.candidate;
      for_each_kernel_table(shape, c.root, [&](std::uint64_t key) { c.shared_entries += seen[key] > 1 ? 1U : 0U; });
      c.score = score_root(c);
    }
  }

  /// Calls use(key) for each table of the kernel's part; the key holds the slot and the table's address.
  template <class Use>
  void for_each_kernel_table(const Shape& shape, std::uint64_t root, Use use) {
    for_each(
        reader_.at(root, shape.entries * sizeof(Entry)), shape.level, shape.entries,
        [](Entry, const Step&, std::uint64_t) {},
        [&](const Step& step, std::uint64_t slot) {
          if (slot >= kernel_slot(shape) && step.address != root)
            use(step.address << 1 | slot);  // 4K tables: 13 free bits
        });
  }

  /// Which of `ranked_` a table leads to.
  struct Below {
    RootSet mapped;  ///< in memory that supervisor leaves map
    RootSet tables;  ///< as tables
  };

  std::size_t position_of(std::uint64_t root) const {
    return static_cast<std::size_t>(std::lower_bound(ranked_->begin(), ranked_->end(), root) - ranked_->begin());
  }

  Below look_below(const std::byte* host, int level, std::uint64_t entries) {
    Below below;
    for_each(
        host, level, entries,
        [&](Entry entry, const Step& step, std::uint64_t) {
          if (user_access(format_.leaf_rights(entry, all_allowances)) != Access::none) return;
          const std::uint64_t last = step.address | low_bits(step.size_log2);
          for (std::size_t i = position_of(step.address); i < ranked_->size() && (*ranked_)[i] <= last; ++i)
            below.mapped.set(i);
        },
        [&](const Step& step, std::uint64_t) {
          const Below further = look_below_table(step.address, level - 1);
          below.mapped |= further.mapped;
          below.tables |= further.tables;
        });
    return below;
  }

  Below look_below_table(std::uint64_t table, int level) {
    const std::uint64_t key = table | static_cast<std::uint64_t>(level);
    if (const auto known = below_.find(key); known != below_.end()) return known->second;
    const std::byte* host = reader_.at(table, table_bytes);
    if (host == nullptr || below_.size() >= max_tables) return {};
    poll();
    Below below;
    if (!look(host, level, table_entries).broken()) below = look_below(host, level, table_entries);
    const std::size_t position = position_of(table);
    if (position < ranked_->size() && (*ranked_)[position] == table) below.tables.set(position);
    below_.emplace(key, below);
    return below;
  }

  void poll() {
    if (++polls_ % 1024 == 0 && !(*keep_going_)()) stopped_ = true;
  }

  Config config_;
  Format format_;
  TableReader reader_;
  std::uint64_t highest_ = low_bits(32);  ///< leaves beyond it are suspicious; devices below 4 GiB are not
  std::vector<Shape> shapes_;
  std::unordered_map<std::uint64_t, Facts> facts_;  ///< by table and level
  const std::vector<std::uint64_t>* ranked_ = nullptr;
  std::unordered_map<std::uint64_t, Below> below_;  ///< by table and level
  const std::function<bool()>* keep_going_ = nullptr;
  std::uint64_t polls_ = 0;
  bool stopped_ = false;
};

}  // namespace vm::mem::paging
