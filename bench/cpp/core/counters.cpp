// What one increment costs: through a writer, through the set, and through the shared atomic that they replace.

#include "vm/core/counters.hpp"

#include <benchmark/benchmark.h>

#include <atomic>

namespace {

const vm::CounterSet& shared_set() {
  static const vm::CounterSet set({"hits", "misses"});
  return set;
}

void shared_atomic(benchmark::State& state) {
  static std::atomic<std::uint64_t> hits{0};
  for (auto _ : state) hits.fetch_add(1, std::memory_order_relaxed);
}

void writer(benchmark::State& state) {
  vm::CounterWriter own = shared_set().writer();
  for (auto _ : state) {
    own.add(0);
    benchmark::ClobberMemory();
  }
}

void set_add(benchmark::State& state) {
  const vm::CounterSet& set = shared_set();
  for (auto _ : state) set.add(0);
}

void snapshot(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(shared_set().snapshot());
}

BENCHMARK(shared_atomic)->ThreadRange(1, 2);
BENCHMARK(writer)->ThreadRange(1, 2);
BENCHMARK(set_add)->ThreadRange(1, 2);
BENCHMARK(snapshot);

}  // namespace
