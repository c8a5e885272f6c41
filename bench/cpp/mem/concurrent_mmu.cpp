// What a look-up costs in the TLBs that threads share, beside what could be used instead: a probe without any
// synchronisation, std::unordered_map under a std::shared_mutex, and tbb::concurrent_hash_map. All hold the same 4096
// pages, all answer with a whole Hit; every look-up of the quiet rows hits. Ours count hits and misses, the peers do
// not.

#include <benchmark/benchmark.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "vm/mem/tlb/hybrid_tlb.hpp"
#include "vm/mem/tlb/sharded_tlb.hpp"

#if defined(VM_HAVE_TBB)
#include <tbb/concurrent_hash_map.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using namespace vm::mem::tlb;

constexpr std::uint32_t entries = 4096;
constexpr std::uint32_t ways = 4;
constexpr std::uint64_t base = 0x7F00'0000'0000;
constexpr Context own{7, 1};
// Enough for no branch predictor to know the stream by heart, and small enough (512 KiB) to stay in the L2 cache.
constexpr std::size_t stream_length = std::size_t{1} << 16;

Entry entry_of(std::uint64_t page) {
  Entry entry;
  entry.vaddr = base + (page << 12);
  entry.paddr = (page * 2654435761 % entries) << 12;
  entry.rights = entry.usable = 3;
  entry.context = own;
  return entry;
}

// Addresses in the first 48 pages, which a private level of 64 entries can hold.
const std::vector<std::uint64_t>& hot_stream() {
  static const std::vector<std::uint64_t> addresses = [] {
    std::mt19937_64 random(3);
    std::vector<std::uint64_t> v(stream_length);
    for (std::uint64_t& a : v) a = base + random() % (std::uint64_t{48} << 12);
    return v;
  }();
  return addresses;
}

// Addresses in all pages.
const std::vector<std::uint64_t>& stream() {
  static const std::vector<std::uint64_t> addresses = [] {
    std::mt19937_64 random(1);
    std::vector<std::uint64_t> v(stream_length);
    for (std::uint64_t& a : v) a = base + random() % (std::uint64_t{entries} << 12);
    return v;
  }();
  return addresses;
}

// --- The peers -------------------------------------------------------------------------------------------------------

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

// --- Ours ------------------------------------------------------------------------------------------------------------

template <class T>
void fill(T& tlb) {
  for (std::uint64_t page = 0; page < entries; ++page) tlb.insert(entry_of(page), tlb.begin_fill());
}

ShardedTlb& sharded_tlb() {
  static ShardedTlb tlb(entries, ways);
  static const bool filled = (fill(tlb), true);
  benchmark::DoNotOptimize(filled);
  return tlb;
}

HybridTlb& hybrid_tlb() {
  static HybridTlb tlb(64, 4, entries, ways);
  static const bool filled = (fill(tlb), true);
  benchmark::DoNotOptimize(filled);
  return tlb;
}

// --- The loops -------------------------------------------------------------------------------------------------------

// Each iteration goes once through the stream; a thread starts where the others do not.
template <class Lookup>
void go_through(benchmark::State& state, Lookup&& lookup, const std::vector<std::uint64_t>& addresses = stream()) {
  const std::size_t start = static_cast<std::size_t>(state.thread_index()) * (stream_length / 2);
  for (auto _ : state) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < stream_length; ++i) {
      Hit hit;
      if (lookup(addresses[(start + i) % stream_length], own, hit)) sum += hit.paddr + hit.usable;
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(stream_length));
}

// The same stream in arrays of as many as fit the L1 cache together with their answers.
constexpr std::size_t array_length = 1024;
template <class Lookup>
void go_through_arrays(benchmark::State& state, Lookup&& lookup,
                       const std::vector<std::uint64_t>& addresses = stream()) {
  const std::size_t start = static_cast<std::size_t>(state.thread_index()) * (stream_length / 2);
  std::vector<Hit> hit(array_length);
  const std::unique_ptr<bool[]> found(new bool[array_length]);
  for (auto _ : state) {
    std::size_t hits = 0;
    for (std::size_t i = 0; i < stream_length; i += array_length) {
      hits += lookup(&addresses[(start + i) % stream_length], array_length, own, hit.data(), found.get());
      benchmark::ClobberMemory();
    }
    benchmark::DoNotOptimize(hits);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(stream_length));
}

#if defined(__x86_64__)
__attribute__((target("avx2,bmi,bmi2"))) void unsynchronised_avx2(benchmark::State& state) {
  static const UnsynchronisedTlb tlb;
  if (!__builtin_cpu_supports("avx2")) return state.SkipWithError("this processor has no AVX2");
  // Written out, because a lambda would not be compiled for AVX2.
  const std::vector<std::uint64_t>& addresses = stream();
  const std::size_t start = static_cast<std::size_t>(state.thread_index()) * (stream_length / 2);
  for (auto _ : state) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < stream_length; ++i) {
      Hit hit;
      if (tlb.lookup(addresses[(start + i) % stream_length], own, hit)) sum += hit.paddr + hit.usable;
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(stream_length));
}
void unsynchronised_avx2_call(benchmark::State& state) {
  static const UnsynchronisedTlb tlb;
  if (!__builtin_cpu_supports("avx2")) return state.SkipWithError("this processor has no AVX2");
  go_through(state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return tlb.call(vaddr, context, hit); });
}
void unsynchronised_avx2_array(benchmark::State& state) {
  static const UnsynchronisedTlb tlb;
  if (!__builtin_cpu_supports("avx2")) return state.SkipWithError("this processor has no AVX2");
  go_through_arrays(state, [&](auto&&... call) { return tlb.lookup(call...); });
}
BENCHMARK(unsynchronised_avx2_array)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(unsynchronised_avx2)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(unsynchronised_avx2_call)->ThreadRange(1, 2)->UseRealTime();
#endif

void sharded(benchmark::State& state) {
  ShardedTlb& tlb = sharded_tlb();
  go_through(state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return tlb.lookup(vaddr, context, hit); });
}

void sharded_reader(benchmark::State& state) {
  ShardedTlb::Reader reader = sharded_tlb().reader();
  go_through(state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return reader.lookup(vaddr, context, hit); });
}
void sharded_array(benchmark::State& state) {
  ShardedTlb& tlb = sharded_tlb();
  go_through_arrays(state, [&](auto&&... call) { return tlb.lookup(call...); });
}
void sharded_array_baseline(benchmark::State& state) {
  static ShardedTlb tlb(entries, ways, detail::baseline_probe_kernel);
  static const bool filled = (fill(tlb), true);
  benchmark::DoNotOptimize(filled);
  go_through_arrays(state, [&](auto&&... call) { return tlb.lookup(call...); });
}
void hybrid(benchmark::State& state) {
  HybridTlb& tlb = hybrid_tlb();
  go_through(state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return tlb.lookup(vaddr, context, hit); });
}
void hybrid_array(benchmark::State& state) {
  HybridTlb& tlb = hybrid_tlb();
  go_through_arrays(state, [&](auto&&... call) { return tlb.lookup(call...); });
}
void hybrid_local(benchmark::State& state) {
  HybridTlb::Local local = hybrid_tlb().local();
  go_through(state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return local.lookup(vaddr, context, hit); });
}
void hybrid_local_hot(benchmark::State& state) {
  HybridTlb::Local local = hybrid_tlb().local();
  go_through(
      state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return local.lookup(vaddr, context, hit); },
      hot_stream());
}
void hybrid_array_hot(benchmark::State& state) {
  HybridTlb& tlb = hybrid_tlb();
  go_through_arrays(
      state, [&](auto&&... call) { return tlb.lookup(call...); }, hot_stream());
}
void sharded_array_hot(benchmark::State& state) {
  ShardedTlb& tlb = sharded_tlb();
  go_through_arrays(
      state, [&](auto&&... call) { return tlb.lookup(call...); }, hot_stream());
}
void sharded_reader_hot(benchmark::State& state) {
  ShardedTlb::Reader reader = sharded_tlb().reader();
  go_through(
      state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return reader.lookup(vaddr, context, hit); },
      hot_stream());
}

// Readers while one more thread flushes pages, all the time, and fills them again: argument 1. With argument 0 that
// thread sleeps.
template <class T>
class Flusher {
 public:
  Flusher(T& tlb, bool busy)
      : thread_([this, &tlb, busy] {
          std::mt19937_64 random(2);
          while (busy && !stop_.load(std::memory_order_relaxed)) {
            const Entry entry = entry_of(random() % entries);
            tlb.flush(FlushRequest::page(entry.vaddr, own));
            tlb.insert(entry, tlb.begin_fill());
            ++flushes_;
          }
        }) {}
  ~Flusher() { finish(); }
  Flusher(const Flusher&) = delete;
  Flusher& operator=(const Flusher&) = delete;
  double finish() {
    stop_.store(true, std::memory_order_relaxed);
    if (thread_.joinable()) thread_.join();
    return static_cast<double>(flushes_);
  }

 private:
  std::atomic<bool> stop_{false};
  std::uint64_t flushes_ = 0;
  std::thread thread_;
};

template <class T>
void under_flushes(benchmark::State& state, T& tlb) {
  Flusher<T> flusher(tlb, state.range(0) != 0);
  go_through(state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return tlb.lookup(vaddr, context, hit); });
  state.counters["flushes"] = benchmark::Counter(flusher.finish(), benchmark::Counter::kIsRate);
}
void sharded_under_flushes(benchmark::State& state) { under_flushes(state, sharded_tlb()); }
void hybrid_under_flushes(benchmark::State& state) { under_flushes(state, hybrid_tlb()); }

void locked_map(benchmark::State& state) {
  static const LockedMap map;
  go_through(state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return map.lookup(vaddr, context, hit); });
}
#if defined(VM_HAVE_TBB)
void tbb_map(benchmark::State& state) {
  static const TbbMap map;
  go_through(state, [&](std::uint64_t vaddr, Context context, Hit& hit) { return map.lookup(vaddr, context, hit); });
}
BENCHMARK(tbb_map)->ThreadRange(1, 2)->UseRealTime();
#endif
BENCHMARK(sharded)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(sharded_array)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(sharded_array_baseline)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(sharded_reader)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(hybrid)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(hybrid_local_hot)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(hybrid_array)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(hybrid_array_hot)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(sharded_array_hot)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(sharded_reader_hot)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(hybrid_local)->ThreadRange(1, 2)->UseRealTime();
BENCHMARK(sharded_under_flushes)->Arg(0)->Arg(1)->UseRealTime();
BENCHMARK(hybrid_under_flushes)->Arg(0)->Arg(1)->UseRealTime();
BENCHMARK(locked_map)->ThreadRange(1, 2)->UseRealTime();

}  // namespace
