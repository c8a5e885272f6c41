// What a look-up costs in the TLBs that threads share, beside what could be used instead: a probe without any
// synchronisation, std::unordered_map under a std::shared_mutex, and tbb::concurrent_hash_map. All hold the same 4096
// pages, all answer with a whole Hit; every look-up of the quiet rows hits. Ours count hits and misses, the peers do
// not.

#include <benchmark/benchmark.h>

#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "concurrent_peers.hpp"
#include "vm/mem/tlb/hybrid_tlb.hpp"
#include "vm/mem/tlb/sharded_tlb.hpp"

namespace {

using namespace concurrent_mmu;

// Enough for no branch predictor to know the stream by heart, and small enough (512 KiB) to stay in the L2 cache.
constexpr std::size_t stream_length = std::size_t{1} << 16;

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
