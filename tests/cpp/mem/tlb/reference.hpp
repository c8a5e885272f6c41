#pragma once
/// \file
/// A hierarchy of TLB levels written to be believed: lists for recency, bits for the tree, a search through everything.

#include <list>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "vm/mem/tlb/config.hpp"
#include "vm/mem/tlb/flush.hpp"
#include "vm/mem/tlb/stats.hpp"

namespace reference {

using vm::mem::tlb::ArrayConfig;
using vm::mem::tlb::Context;
using vm::mem::tlb::Entry;
using vm::mem::tlb::FlushRequest;
using vm::mem::tlb::Inclusion;
using vm::mem::tlb::LevelConfig;
using vm::mem::tlb::LevelStats;
using vm::mem::tlb::PrefetchStats;
using vm::mem::tlb::Replacement;

inline bool same_page(const Entry& a, const Entry& b) { return a.vaddr == b.vaddr && a.size_log2 == b.size_log2; }
inline bool answers(const Entry& e, Context c) {
  return e.context.vmid == c.vmid && (e.global || e.context.asid == c.asid);
}
inline bool same(const Entry& a, const Entry& b) {
  return same_page(a, b) && a.global == b.global && a.context.vmid == b.context.vmid &&
         (a.global || a.context.asid == b.context.asid);
}
inline bool covered(const FlushRequest& request, const Entry& e) {
  const auto packed = pack(e);
  return covers(request, packed.tag, packed.meta);
}

class Array {
 public:
  explicit Array(const ArrayConfig& config) : config_(config), sets_(config.sets) {
    for (Set& set : sets_) set.ways.resize(config.ways);
  }

  bool takes(const Entry& e, const LevelConfig& level) const {
    const auto names = [&](const ArrayConfig& a) {
      for (const auto size : a.page_sizes)
        if (size == e.size_log2) return true;
      return false;
    };
    if (names(config_)) return true;
    if (!config_.page_sizes.empty()) return false;
    for (const ArrayConfig& other : level.arrays)
      if (names(other)) return false;
    return true;
  }

  // fn(entry) for each live entry; true removes it.
  template <class Fn>
  void remove_if(Fn&& fn) {
    for (Set& set : sets_)
      for (auto& way : set.ways)
        if (way && fn(*way)) way.reset();
  }

  Entry* find(std::uint64_t vaddr, Context context) {
    for (Set& set : sets_)
      for (std::size_t w = 0; w < set.ways.size(); ++w) {
        auto& way = set.ways[w];
        if (!way || !answers(*way, context) || vaddr - way->vaddr >= way->page_size()) continue;
        touch(set, w);
        return &*way;
      }
    return nullptr;
  }

  std::optional<Entry> insert(const Entry& e) {
    Set& set = sets_[(e.vaddr >> e.size_log2) % config_.sets];
    std::size_t w = 0;
    while (w < set.ways.size() && set.ways[w]) ++w;
    if (w == set.ways.size()) w = victim(set);
    const std::optional<Entry> evicted = set.ways[w];
    set.ways[w] = e;
    set.filled.remove(w);
    set.filled.push_back(w);
    touch(set, w);
    return evicted;
  }

 private:
  struct Set {
    std::vector<std::optional<Entry>> ways;
    std::list<std::size_t> used, filled;                               // oldest first
    std::map<std::pair<std::size_t, std::size_t>, bool> victim_right;  // of the node [first, end)
  };

  static void touch(Set& set, std::size_t w) {
    set.used.remove(w);
    set.used.push_back(w);
    std::size_t first = 0, end = set.ways.size();
    while (end - first > 1) {
      const std::size_t middle = first + (end - first + 1) / 2;
      set.victim_right[{first, end}] = w < middle;
      (w < middle ? end : first) = middle;
    }
  }

  std::size_t victim(Set& set) const {
    if (config_.replacement == Replacement::fifo) return set.filled.front();
    if (config_.replacement == Replacement::lru) return set.used.front();
    std::size_t first = 0, end = set.ways.size();
    while (end - first > 1) {
      const std::size_t middle = first + (end - first + 1) / 2;
      (set.victim_right[{first, end}] ? first : end) = middle;
    }
    return first;
  }

  ArrayConfig config_;
  std::vector<Set> sets_;
};

class Hierarchy {
 public:
  Hierarchy(const std::vector<LevelConfig>& levels, Inclusion inclusion)
      : configs_(levels), inclusive_(inclusion == Inclusion::inclusive), stats(levels.size()) {
    for (const LevelConfig& level : levels) {
      arrays_.emplace_back();
      for (const ArrayConfig& array : level.arrays) arrays_.back().emplace_back(array);
    }
  }

  // The level that has it, or -1.
  int lookup(std::uint64_t vaddr, Context context, Entry& out, bool& first_use) {
    for (std::size_t l = 0; l < arrays_.size(); ++l) {
      for (Array& array : arrays_[l]) {
        Entry* found = array.find(vaddr, context);
        if (found == nullptr) continue;
        ++stats[l].hits;
        first_use = found->prefetched;
        if (first_use) {
          ++prefetch.useful;
          const Entry used = *found;
          for_all([&](std::size_t, Entry& e) {
            if (same(e, used)) e.prefetched = false;
            return false;
          });
        }
        out = *found;
        std::size_t to = 0;
        while (array_of(to, out) == nullptr) ++to;
        if (to >= l) return static_cast<int>(l);
        if (inclusive_) {
          fill(l, out);
        } else {
          array.remove_if([&](const Entry& e) { return same(e, out); });
          ++stats[l].promoted;
          fill(l, out);
        }
        return static_cast<int>(l);
      }
      ++stats[l].misses;
    }
    return -1;
  }

  void insert(const Entry& entry) {
    for_all([&](std::size_t l, Entry& e) {
      const bool conflict = same_page(e, entry) && e.context.vmid == entry.context.vmid &&
                            (e.global || entry.global || e.context.asid == entry.context.asid);
      if (conflict) ++stats[l].evictions;
      return conflict;
    });
    if (entry.prefetched) ++prefetch.fills;
    fill(arrays_.size(), entry);
  }

  void flush(const FlushRequest& request) {
    for_all([&](std::size_t l, Entry& e) {
      const bool gone = covered(request, e);
      if (gone) ++stats[l].flushed;
      return gone;
    });
  }

  std::vector<Entry> entries(std::size_t level) {
    std::vector<Entry> result;
    for (Array& array : arrays_[level])
      array.remove_if([&](const Entry& e) {
        result.push_back(e);
        return false;
      });
    return result;
  }

  // What was prefetched and is neither used nor here any more.
  std::uint64_t useless() {
    std::vector<Entry> waiting;
    for_all([&](std::size_t, Entry& e) {
      bool known = !e.prefetched;
      for (const Entry& w : waiting) known = known || same(w, e);
      if (!known) waiting.push_back(e);
      return false;
    });
    return prefetch.fills - prefetch.useful - waiting.size();
  }

 private:
  template <class Fn>
  void for_all(Fn&& fn) {
    for (std::size_t l = 0; l < arrays_.size(); ++l)
      for (Array& array : arrays_[l]) array.remove_if([&](Entry& e) { return fn(l, e); });
  }

  Array* array_of(std::size_t level, const Entry& e) {
    for (Array& array : arrays_[level])
      if (array.takes(e, configs_[level])) return &array;
    return nullptr;
  }

  // Inclusive: into all levels before `end`. Exclusive: into the first, and what has no room goes on.
  void fill(std::size_t end, const Entry& entry) {
    if (inclusive_) {
      for (std::size_t l = end; l-- != 0;) {
        Array* array = array_of(l, entry);
        if (array == nullptr) continue;
        ++stats[l].fills;
        const std::optional<Entry> evicted = array->insert(entry);
        if (!evicted) continue;
        ++stats[l].evictions;
        for_all([&](std::size_t other, Entry& e) {
          const bool gone = other < l && same(e, *evicted);
          if (gone) ++stats[other].evictions;
          return gone;
        });
      }
      return;
    }
    std::optional<Entry> moving = entry;
    for (std::size_t l = 0; moving && l < arrays_.size(); ++l) {
      Array* array = array_of(l, *moving);
      if (array == nullptr) continue;
      ++stats[l].fills;
      moving = array->insert(*moving);
      if (moving) ++stats[l].evictions;
    }
  }

  std::vector<LevelConfig> configs_;
  bool inclusive_;
  std::vector<std::vector<Array>> arrays_;

 public:
  std::vector<LevelStats> stats;
  PrefetchStats prefetch;  // but useless
};

}  // namespace reference
