// Copies by this library beside those of the C library and, where it can be loaded, of AMD's AOCL-LibMem: set
// VM_BENCH_AOCL to the path of libaocl-libmem.so, or have it where the dynamic linker looks.
//
// Names are kind/contestant/argument; the argument is a size in bytes, for `mixed` a row of
// bench/data/memcpy_sizes.csv. Times are per copy (items_per_second is the inverse).

#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#if defined(__linux__)
#include <dlfcn.h>
#endif

#include "vm/mem/simd/memcpy.hpp"
#include "vm/mem/simd/parallel.hpp"

namespace {

using vm::mem::simd::CopyPlan;
using vm::mem::simd::MemcpyStrategy;

constexpr std::size_t KiB = 1024, MiB = 1024 * KiB;

// Huge pages, touched: the copy is measured, not the kernel.
class Buffer {
 public:
  explicit Buffer(std::size_t size) : size_((size + 4 * MiB - 1) / (2 * MiB) * (2 * MiB)) {
    void* all = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) std::abort();
    madvise(all, size_, MADV_HUGEPAGE);
    std::memset(all, 1, size_);
    all_ = all;
    const auto address = reinterpret_cast<std::uintptr_t>(all);
    data_ = reinterpret_cast<unsigned char*>((address + 2 * MiB - 1) / (2 * MiB) * (2 * MiB));
  }
  ~Buffer() { munmap(all_, size_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  unsigned char* data() const { return data_; }

 private:
  std::size_t size_;
  void* all_ = nullptr;
  unsigned char* data_ = nullptr;
};

struct Buffers {
  explicit Buffers(std::size_t size) : to(size + 4 * KiB), from(size + 4 * KiB) {}
  Buffer to, from;
};

// One pair for everything that fits it, so that no contestant has better pages than another.
const Buffers& buffers(std::size_t size) {
  static std::map<std::size_t, std::unique_ptr<Buffers>> all;
  std::unique_ptr<Buffers>& slot = all[size <= 16 * MiB ? 16 * MiB : size];
  if (slot == nullptr) slot = std::make_unique<Buffers>(size <= 16 * MiB ? 16 * MiB : size);
  return *slot;
}

using Function = void* (*)(void*, const void*, std::size_t);

Function aocl() {
#if defined(__linux__)
  static const Function found = [] {
    const char* path = std::getenv("VM_BENCH_AOCL");
    void* library = dlopen(path != nullptr ? path : "libaocl-libmem.so", RTLD_NOW | RTLD_LOCAL);
    return library == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(library, "memcpy"));
  }();
  return found;
#else
  return nullptr;
#endif
}

// The contestants, each inlined into the loop that times it.
struct CLibrary {
  static bool ready() { return true; }
  void operator()(void* to, const void* from, std::size_t n) const { std::memcpy(to, from, n); }
};
struct Ours {
  static bool ready() { return true; }
  void operator()(void* to, const void* from, std::size_t n) const { vm::mem::simd::memcpy_raw(to, from, n); }
};
struct Aocl {
  Function copy = aocl();
  static bool ready() { return aocl() != nullptr; }
  void operator()(void* to, const void* from, std::size_t n) const { copy(to, from, n); }
};

template <class Copy>
void run_fixed(benchmark::State& state, const Copy& copy, std::size_t to_offset, std::size_t from_offset) {
  const auto n = static_cast<std::size_t>(state.range(0));
  const Buffers& b = buffers(n);
  unsigned char* to = b.to.data() + to_offset;
  const unsigned char* from = b.from.data() + from_offset;
  for (auto _ : state) {
    copy(to, from, n);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(n));
}

template <class Copy>
void fixed(benchmark::State& state, std::size_t to_offset, std::size_t from_offset) {
  if (!Copy::ready()) return state.SkipWithError("not there");
  run_fixed(state, Copy{}, to_offset, from_offset);
}

void with_strategy(benchmark::State& state, const CopyPlan& plan) {
  if (!why_not(plan.instruction_set, vm::CpuFeatures::detect()).empty()) return state.SkipWithError("not there");
  const MemcpyStrategy strategy(plan);
  run_fixed(
      state, [&](void* to, const void* from, std::size_t n) { strategy.copy(to, from, n); }, 0, 0);
}

void with_threads(benchmark::State& state, unsigned threads) {
  const MemcpyStrategy& strategy = vm::mem::simd::default_strategy();
  const auto copy = [&](void* to, const void* from, std::size_t n) {
    vm::mem::simd::copy_parallel(to, from, n, {threads, false}, strategy);
  };
  run_fixed(state, copy, 0, 0);
}

// What the bytes are does not matter to a copy, or should not.
template <class Copy>
void pattern(benchmark::State& state, const std::string& name) {
  constexpr std::size_t size = 16 * KiB;
  const Buffers& b = buffers(size);
  std::mt19937 random(1);
  for (std::size_t i = 0; i < size; ++i)
    b.from.data()[i] = static_cast<unsigned char>(name == "zero" ? 0 : name == "sequential" ? i : random());
  fixed<Copy>(state, 0, 0);
}

struct Call {
  std::uint32_t size;
  std::uint16_t to, from;
};
constexpr std::size_t calls_drawn = std::size_t{1} << 16;  // too many for a branch predictor to learn by heart
constexpr const char* distributions[] = {"fleet", "workload_0", "workload_3"};

// Offsets keep both ends in the first cache unless the size itself is larger.
std::vector<Call> draw_calls(const std::string& distribution) {
  std::ifstream table(VM_BENCH_DATA "/memcpy_sizes.csv");
  std::vector<std::uint32_t> sizes;
  std::vector<double> weights;
  for (std::string line; std::getline(table, line);) {
    std::istringstream fields(line);
    std::string name, size, weight;
    if (!std::getline(fields, name, ',') || name != distribution) continue;
    std::getline(fields, size, ',');
    std::getline(fields, weight, ',');
    sizes.push_back(static_cast<std::uint32_t>(std::stoul(size)));
    weights.push_back(std::stod(weight));
  }
  if (sizes.empty()) std::abort();
  std::mt19937_64 random(20260101);
  std::discrete_distribution<std::size_t> draw(weights.begin(), weights.end());
  std::vector<Call> calls(calls_drawn);
  for (Call& call : calls)
    call = {sizes[draw(random)], static_cast<std::uint16_t>(random() % 4096),
            static_cast<std::uint16_t>(random() % 4096)};
  return calls;
}

template <class Copy>
void mixed(benchmark::State& state) {
  if (!Copy::ready()) return state.SkipWithError("not there");
  const std::vector<Call> calls = draw_calls(distributions[state.range(0)]);
  const Buffers& b = buffers(MiB);
  const Copy copy{};
  std::int64_t bytes = 0;
  for (const Call& call : calls) bytes += call.size;
  for (auto _ : state) {
    for (const Call& call : calls) {
      copy(b.to.data() + call.to, b.from.data() + call.from, call.size);
      benchmark::ClobberMemory();
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(calls_drawn));
  state.SetBytesProcessed(state.iterations() * bytes);
  state.SetLabel(distributions[state.range(0)]);
}

template <class Copy>
void add(const std::string& name) {
  const auto sizes = [&](const std::string& kind, std::size_t to, std::size_t from,
                         const std::vector<std::size_t>& all) {
    auto* row = benchmark::RegisterBenchmark((kind + "/" + name).c_str(),
                                             [=](benchmark::State& state) { fixed<Copy>(state, to, from); });
    for (const std::size_t size : all) row->Arg(static_cast<std::int64_t>(size));
  };
  sizes("small", 0, 0, {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256});
  sizes("medium", 0, 0, {512, 768, 1 * KiB, 2 * KiB, 4 * KiB});
  sizes("large", 0, 0, {8 * KiB, 16 * KiB, 32 * KiB, 64 * KiB, 128 * KiB});
  sizes("huge", 0, 0, {512 * KiB, 2 * MiB, 4 * MiB, 8 * MiB, 16 * MiB, 32 * MiB, 64 * MiB, 256 * MiB});
  sizes("unaligned", 3, 21, {13, 100, 500, 1 * KiB, 4 * KiB, 16 * KiB, 64 * KiB, 1 * MiB, 64 * MiB});
  for (const char* kind : {"sequential", "zero", "random"})
    benchmark::RegisterBenchmark(("pattern_" + std::string(kind) + "/" + name).c_str(), [=](benchmark::State& state) {
      pattern<Copy>(state, kind);
    })->Arg(16 * KiB);
  benchmark::RegisterBenchmark(("mixed/" + name).c_str(), mixed<Copy>)->DenseRange(0, 2);
}

void add_methods() {
  using vm::mem::simd::InstructionSet;
  const auto row = [](const std::string& name, const CopyPlan& plan) {
    auto* added = benchmark::RegisterBenchmark(("comparison/" + name).c_str(),
                                               [=](benchmark::State& state) { with_strategy(state, plan); });
    for (const std::size_t size : {64 * KiB / 64, 16 * KiB, 256 * KiB, 4 * MiB, 64 * MiB, 256 * MiB})
      added->Arg(static_cast<std::int64_t>(size));
  };
  for (const InstructionSet set :
       {InstructionSet::scalar, InstructionSet::sse2, InstructionSet::avx, InstructionSet::avx2, InstructionSet::avx512,
        InstructionSet::neon, InstructionSet::sve}) {
    CopyPlan plan;
    plan.instruction_set = set;
    row("vector_" + std::string(name(set)), plan);
    plan.stream_from = 0;
    plan.prefetch_distance = CopyPlan::detect().prefetch_distance;
    row("stream_" + std::string(name(set)), plan);
  }
#if defined(__x86_64__)
  CopyPlan plan;
  plan.string_from = 0;
  row("rep_movsb", plan);
#endif
  for (const unsigned threads : {1U, 2U})
    benchmark::RegisterBenchmark(("comparison/threads_" + std::to_string(threads)).c_str(),
                                 [=](benchmark::State& state) { with_threads(state, threads); })
        ->Arg(static_cast<std::int64_t>(64 * MiB))
        ->Arg(static_cast<std::int64_t>(256 * MiB))
        ->UseRealTime();
}

// `--count CONTESTANT SIZE TIMES` copies and ends: a tool that counts instructions sees nothing else grow with TIMES.
int count_only(char** arguments) {
  const std::string contestant = arguments[2];
  const std::size_t size = std::stoul(arguments[3]);
  const unsigned long times = std::stoul(arguments[4]);
  static unsigned char to[4096], from[4096];
  if (size > sizeof to) return 1;
  const auto repeat = [&](const auto& copy) {
    for (unsigned long i = 0; i < times; ++i) {
      copy(to, from, size);
      benchmark::ClobberMemory();
    }
  };
  if (contestant == "vm") repeat(Ours{});
  if (contestant == "libc") repeat(CLibrary{});
  return 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 5 && std::string(arguments[1]) == "--count") return count_only(arguments);
  add<CLibrary>("libc");
  add<Ours>("vm");
  add<Aocl>("aocl");
  add_methods();
  benchmark::Initialize(&count, arguments);
  if (benchmark::ReportUnrecognizedArguments(count, arguments)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
