// What one observe() costs: each prefetcher on events that are the home of it, beside one that proposes the next page
// by hand, and beside the page walk that a good candidate saves (scalar_try_translate in paging.cpp).

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "vm/mem/prefetch/adaptive.hpp"
#include "vm/mem/prefetch/distance.hpp"
#include "vm/mem/prefetch/free_neighbours.hpp"
#include "vm/mem/prefetch/markov.hpp"
#include "vm/mem/prefetch/perceptron.hpp"
#include "vm/mem/prefetch/sequential.hpp"
#include "vm/mem/prefetch/strided.hpp"

namespace {

using namespace vm::mem::prefetch;

constexpr std::size_t length = std::size_t{1} << 14;

enum Stream : std::int64_t { sequential, strided, random_pages };

// Four instructions, each with its own array.
std::vector<Event> events(std::int64_t stream) {
  std::mt19937_64 random(20261121);
  std::vector<Event> all(length);
  for (std::size_t i = 0; i < length; ++i) {
    const std::uint64_t array = i % 4, step = i / 4;
    all[i].pc = 0x401000 + 16 * array;
    switch (stream) {
      case sequential: all[i].page = (array << 24) + step; break;
      case strided: all[i].page = (array << 24) + step * (3 + 2 * array); break;
      default: all[i].page = random() >> 40; break;
    }
  }
  return all;
}

// The baseline.
void bm_by_hand(benchmark::State& state) {
  const std::vector<Event> all = events(state.range(0));
  Candidates out;
  std::size_t i = 0;
  for (auto _ : state) {
    const Event& event = all[i++ % length];
    out.begin(event.page);
    out.push_at(1);
    benchmark::DoNotOptimize(out);
  }
  state.SetItemsProcessed(state.iterations());
}

void bm_observe(benchmark::State& state, std::unique_ptr<Prefetcher> (*make)()) {
  const std::vector<Event> all = events(state.range(0));
  const std::unique_ptr<Prefetcher> prefetcher = make();
  Candidates out;
  for (const Event& event : all) prefetcher->observe(event, out);
  std::size_t i = 0;
  for (auto _ : state) {
    prefetcher->observe(all[i++ % length], out);
    benchmark::DoNotOptimize(out);
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["proposed_per_event"] =
      static_cast<double>(prefetcher->stats().proposed) / static_cast<double>(prefetcher->stats().events);
}

template <class P>
std::unique_ptr<Prefetcher> make() {
  return std::make_unique<P>();
}
std::unique_ptr<Prefetcher> make_perceptron() { return std::make_unique<Perceptron>(std::make_unique<Distance>()); }
std::unique_ptr<Prefetcher> make_adaptive() { return std::make_unique<Adaptive>(default_members()); }

}  // namespace

// Arguments: the stream, 0 sequential, 1 strided, 2 random.
BENCHMARK(bm_by_hand)->Name("naive_unchecked")->DenseRange(0, 2);
BENCHMARK_CAPTURE(bm_observe, sequential, make<Sequential>)->DenseRange(0, 2);
BENCHMARK_CAPTURE(bm_observe, strided, make<Strided>)->DenseRange(0, 2);
BENCHMARK_CAPTURE(bm_observe, distance, make<Distance>)->DenseRange(0, 2);
BENCHMARK_CAPTURE(bm_observe, markov, make<Markov>)->DenseRange(0, 2);
BENCHMARK_CAPTURE(bm_observe, free_neighbours, make<FreeNeighbours>)->DenseRange(0, 2);
BENCHMARK_CAPTURE(bm_observe, perceptron_on_distance, make_perceptron)->DenseRange(0, 2);
BENCHMARK_CAPTURE(bm_observe, adaptive_of_five, make_adaptive)->DenseRange(0, 2);
