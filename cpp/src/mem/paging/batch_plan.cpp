#include "mem/paging/batch_plan.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "vm/core/cpu_features.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::paging {
namespace {

struct HostFacts {
  bool avx2 = false;
  bool avx512 = false;
  std::uint64_t l2_bytes = 0;
};

// Facts do not change while a process runs; a copy in each extension module is as good as one.
const HostFacts& host_facts() {
  static const HostFacts facts = [] {
    const CpuFeatures features = CpuFeatures::detect();
    const bool avx512 = features.has(CpuFeature::avx512f) && features.has(CpuFeature::avx512dq) &&
                        features.has(CpuFeature::avx512bw) && features.has(CpuFeature::avx512vl);
    constexpr std::uint64_t usual_l2 = std::uint64_t{1} << 20;  // where the system does not say
    const std::uint64_t l2 = features.cache_bytes(2);
    return HostFacts{features.has(CpuFeature::avx2), avx512, l2 != 0 ? l2 : usual_l2};
  }();
  return facts;
}

// Below this many addresses, setting a cache up costs more than it saves.
constexpr std::size_t smallest_cached_batch = 64;
constexpr std::size_t least_slots = 64;
// 2^16 slots are 512 KiB, with tags 1 MiB: what an L2 cache of today can lend.
constexpr std::size_t most_slots = std::size_t{1} << 16;
constexpr std::size_t largest_sample = 1024;

struct Sample {
  std::size_t tables = 1;        ///< estimate of how many last-level tables the addresses use
  std::uint64_t first_span = 0;  ///< lowest and highest span seen
  std::uint64_t last_span = 0;
};

// An evenly spaced sample. k draws from m equally likely tables have about k(k-1)/2m coincidences, which gives m. A
// skewed stream looks smaller than it is, and is smaller where it matters.
Sample sample_spans(const std::uint64_t* vaddr, std::size_t count, unsigned span_shift) {
  const std::size_t size = std::min(count, largest_sample);
  if (size == 0) return {};
  std::vector<std::uint64_t> spans(size);
  for (std::size_t i = 0; i < size; ++i) spans[i] = vaddr[i * (count / size)] >> span_shift;
  std::sort(spans.begin(), spans.end());
  Sample sample{1, spans.front(), spans.back()};
  const auto distinct = static_cast<std::size_t>(std::unique(spans.begin(), spans.end()) - spans.begin());
  const std::size_t shared = size - distinct;
  const std::size_t pairs = size * (size - 1) / 2;
  sample.tables = std::max(distinct, shared == 0 ? pairs : pairs / shared);
  return sample;
}

std::size_t power_of_two_at_least(std::size_t n) {
  std::size_t power = 1;
  while (power < n) power *= 2;
  return power;
}

// A slot for each span where the spans lie close together; what the sample missed at both ends is walked. Else tagged
// slots, twice as many as the estimate, for its error; more slots than addresses can never be used.
void plan_slots(BatchPlan& plan, const Sample& sample, std::size_t count) {
  const std::uint64_t range = sample.last_span - sample.first_span;
  const std::size_t most = std::min(most_slots, power_of_two_at_least(std::max(2 * count, least_slots)));
  if (range < most) {
    plan.slots = std::max(power_of_two_at_least(range + 1), least_slots);
    const std::uint64_t spare = plan.slots - 1 - range;
    plan.first_span = sample.first_span - std::min(sample.first_span, spare / 2);
  } else {
    plan.tagged = true;
    plan.slots = std::clamp(power_of_two_at_least(2 * sample.tables), least_slots, most);
  }
}

}  // namespace

const char* to_string(Engine engine) noexcept {
  switch (engine) {
    case Engine::automatic: return "auto";
    case Engine::walk: return "walk";
    case Engine::leaf_cache: return "leaf_cache";
    case Engine::group_prefetch: return "group_prefetch";
    case Engine::avx2: return "avx2";
    case Engine::avx512: return "avx512";
  }
  return "?";
}

bool engine_available(Engine engine, const BatchGeometry& geometry) noexcept {
  if (engine == Engine::avx2)
    return geometry.wide_entries && avx2_leaf_kernel(LeafShape::x86) != nullptr && host_facts().avx2;
  if (engine == Engine::avx512)
    return geometry.wide_entries && avx512_leaf_kernel(LeafShape::x86) != nullptr && host_facts().avx512;
  return true;
}

BatchPlan plan_batch(const BatchGeometry& geometry, bool filter_usable, const std::uint64_t* vaddr, std::size_t count,
                     Engine wanted) {
  BatchPlan plan;
  plan.engine = wanted;
  if (!engine_available(wanted, geometry))
    throw NotSupported(std::string("engine ") + to_string(wanted) + ": " +
                       (geometry.wide_entries ? "this processor or this build lacks the instructions"
                                              : "formats with 4-byte entries have no vector kernel"));
  if (wanted == Engine::walk || wanted == Engine::group_prefetch) return plan;
  if (wanted == Engine::automatic && count < smallest_cached_batch) {
    plan.engine = Engine::walk;
    return plan;
  }
  const Sample sample = sample_spans(vaddr, count, geometry.span_shift);
  plan.prefetch = sample.tables * geometry.table_bytes > host_facts().l2_bytes;
  plan_slots(plan, sample, count);
  if (wanted != Engine::automatic) return plan;

  const bool tables_are_reused = sample.tables * 2 <= count;
  if (!filter_usable || !tables_are_reused) {
    plan.engine = plan.prefetch ? Engine::group_prefetch : Engine::walk;
  } else if (engine_available(Engine::avx512, geometry)) {
    plan.engine = Engine::avx512;
  } else if (engine_available(Engine::avx2, geometry)) {
    plan.engine = Engine::avx2;
  } else {
    plan.engine = Engine::leaf_cache;
  }
  return plan;
}

}  // namespace vm::mem::paging
