#pragma once
// What could be used instead of the TLBs that threads share, and the pages that all of them hold.

#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <vector>

#include "vm/mem/tlb/probe.hpp"

#if defined(VM_HAVE_TBB)
#include <tbb/concurrent_hash_map.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace concurrent_mmu {

using namespace vm::mem::tlb;

constexpr std::uint32_t entries = 4096;
constexpr std::uint32_t ways = 4;
constexpr std::uint64_t base = 0x7F00'0000'0000;
constexpr Context own{7, 1};
inline Entry entry_of(std::uint64_t page) {
  Entry entry;
  entry.vaddr = base + (page << 12);
  entry.paddr = (page * 2654435761 % entries) << 12;
  entry.rights = entry.usable = 3;
  entry.context = own;
  return entry;
}

#if defined(__x86_64__)
// The same sets with nothing that makes them safe: the tags of a set in one vector, frames and metas beside them.
class UnsynchronisedTlb {
 public:
  UnsynchronisedTlb() {
    std::vector<unsigned> used(sets_.size());
    for (std::uint64_t page = 0; page < entries; ++page) {
      const PackedEntry p = pack(entry_of(page));
      const std::size_t index = (p.tag >> 12) & (sets_.size() - 1);
      const unsigned way = used[index]++;
      sets_[index].tag[way] = p.tag;
      sets_[index].frame[way] = p.frame;
      sets_[index].meta[way] = p.meta;
    }
  }

  __attribute__((target("avx2,bmi,bmi2"), always_inline)) inline bool lookup(std::uint64_t vaddr, Context context,
                                                                             Hit& hit) const noexcept {
    PackedEntry entry;
    if (!find(vaddr, context, entry)) return false;
    detail::set_hit(hit, entry, vaddr);
    return true;
  }
  // An array of them: the same inputs and outputs as ours, and hits stored the same way.
  __attribute__((target("avx2,bmi,bmi2"), noinline)) std::size_t lookup(const std::uint64_t* vaddr, std::size_t count,
                                                                        Context context, Hit* hit,
                                                                        bool* found) const noexcept {
    std::size_t hits = 0;
    for (std::size_t i = 0; i < count; ++i) {
      PackedEntry entry;
      found[i] = find(vaddr[i], context, entry);
      if (!found[i]) continue;
      detail::store_hit(hit[i], entry.frame, entry.meta, 12, vaddr[i]);
      ++hits;
    }
    return hits;
  }
  // The same behind a call, as the look-ups of `Tlb` are.
  __attribute__((target("avx2,bmi,bmi2"), noinline)) bool call(std::uint64_t vaddr, Context context,
                                                               Hit& hit) const noexcept {
    return lookup(vaddr, context, hit);
  }

 private:
  __attribute__((target("avx2,bmi,bmi2"), always_inline)) inline bool find(std::uint64_t vaddr, Context context,
                                                                           PackedEntry& entry) const noexcept {
    const Set& set = sets_[(vaddr >> 12) & (entries / ways - 1)];
    const std::uint64_t tag = tag_of(vaddr, 12);
    const __m256i equal = _mm256_cmpeq_epi64(_mm256_load_si256(reinterpret_cast<const __m256i*>(set.tag)),
                                             _mm256_set1_epi64x(static_cast<long long>(tag)));
    for (auto found = static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(equal))); found != 0;
         found &= found - 1) {
      const unsigned way = detail::lowest_bit(found);
      if (!answers(set.meta[way], context)) continue;
      entry = {tag, set.frame[way], set.meta[way]};
      return true;
    }
    return false;
  }

  struct alignas(32) Set {
    std::uint64_t tag[ways] = {};
    std::uint64_t frame[ways] = {};
    std::uint64_t meta[ways] = {};
  };
  std::vector<Set> sets_ = std::vector<Set>(entries / ways);
};
#endif

class LockedMap {
 public:
  LockedMap() {
    for (std::uint64_t page = 0; page < entries; ++page) {
      const PackedEntry p = pack(entry_of(page));
      map_.emplace(p.tag, p);
    }
  }
  bool lookup(std::uint64_t vaddr, Context context, Hit& hit) const {
    const std::shared_lock<std::shared_mutex> lock(mutex_);
    const auto found = map_.find(tag_of(vaddr, 12));
    if (found == map_.end() || !answers(found->second.meta, context)) return false;
    detail::set_hit(hit, found->second, vaddr);
    return true;
  }

 private:
  mutable std::shared_mutex mutex_;
  std::unordered_map<std::uint64_t, PackedEntry> map_;
};

#if defined(VM_HAVE_TBB)
class TbbMap {
  // The default hash keeps the zeros of page addresses in the bits that TBB looks at.
  struct Hash {
    static std::size_t hash(std::uint64_t tag) noexcept { return tag >> 12; }
    static bool equal(std::uint64_t a, std::uint64_t b) noexcept { return a == b; }
  };
  using Map = tbb::concurrent_hash_map<std::uint64_t, PackedEntry, Hash>;

 public:
  TbbMap() {
    for (std::uint64_t page = 0; page < entries; ++page) {
      const PackedEntry p = pack(entry_of(page));
      map_.insert({p.tag, p});
    }
  }
  bool lookup(std::uint64_t vaddr, Context context, Hit& hit) const {
    Map::const_accessor found;
    if (!map_.find(found, tag_of(vaddr, 12)) || !answers(found->second.meta, context)) return false;
    detail::set_hit(hit, found->second, vaddr);
    return true;
  }

 private:
  Map map_;
};
#endif

}  // namespace concurrent_mmu
