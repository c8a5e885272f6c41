#include "vm/mem/simd/copy_plan.hpp"

#include <algorithm>
#include <array>

#include "mem/simd/kernel_string.hpp"
#include "mem/simd/kernel_tables.hpp"

namespace vm::mem::simd {
namespace {

constexpr std::array<std::string_view, instruction_set_count> names{"scalar", "sse2", "avx", "avx2",
                                                                    "avx512", "neon", "sve"};

struct Needs {
  InstructionSet set;
  Architecture architecture;
  std::array<CpuFeature, 5> features;  // one named twice where there are fewer
};
constexpr Needs needs[] = {
    {InstructionSet::sse2,
     Architecture::x86_64,
     {CpuFeature::sse2, CpuFeature::sse2, CpuFeature::sse2, CpuFeature::sse2, CpuFeature::sse2}},
    {InstructionSet::avx,
     Architecture::x86_64,
     {CpuFeature::avx, CpuFeature::avx, CpuFeature::avx, CpuFeature::avx, CpuFeature::avx}},
    {InstructionSet::avx2,
     Architecture::x86_64,
     {CpuFeature::avx2, CpuFeature::bmi1, CpuFeature::bmi2, CpuFeature::avx2, CpuFeature::avx2}},
    {InstructionSet::avx512,
     Architecture::x86_64,
     {CpuFeature::avx512f, CpuFeature::avx512dq, CpuFeature::avx512bw, CpuFeature::avx512vl, CpuFeature::bmi2}},
    {InstructionSet::neon,
     Architecture::aarch64,
     {CpuFeature::neon, CpuFeature::neon, CpuFeature::neon, CpuFeature::neon, CpuFeature::neon}},
    {InstructionSet::sve,
     Architecture::aarch64,
     {CpuFeature::sve, CpuFeature::sve, CpuFeature::sve, CpuFeature::sve, CpuFeature::sve}},
};

constexpr std::uint64_t KiB = 1024, MiB = 1024 * KiB;

bool can(InstructionSet set, const CpuFeatures& features) { return why_not(set, features).empty(); }

InstructionSet best_set(const CpuFeatures& features) {
  // The first processors with AVX-512 lowered their clock for 512-bit instructions (Intel's optimization manual, 2.6.3
  // of Skylake Server); those with VBMI2 (Ice Lake, Zen 4) no longer do.
  if (features.has(CpuFeature::avx512_vbmi2) && can(InstructionSet::avx512, features)) return InstructionSet::avx512;
  // Vectors of 16 bytes are NEON's, which needs no predicates.
  if (features.sve_vector_bytes.value_or(0) > 16 && can(InstructionSet::sve, features)) return InstructionSet::sve;
  for (const InstructionSet set :
       {InstructionSet::avx2, InstructionSet::avx, InstructionSet::sse2, InstructionSet::neon})
    if (can(set, features)) return set;
  return InstructionSet::scalar;
}

}  // namespace

std::string_view name(InstructionSet set) noexcept { return names[static_cast<std::size_t>(set)]; }

std::optional<InstructionSet> find_instruction_set(std::string_view name) noexcept {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<InstructionSet>(found - names.begin());
}

std::string_view name(Method method) noexcept {
  switch (method) {
    case Method::small: return "small";
    case Method::vector: return "vector";
    case Method::string: return "string";
    case Method::stream: return "stream";
  }
  return "vector";
}

std::string why_not(InstructionSet set, const CpuFeatures& features) {
  for (const Needs& need : needs) {
    if (need.set != set) continue;
    if (features.architecture != need.architecture)
      return "it is of " + to_string(need.architecture) + ", this processor is " + to_string(features.architecture);
    for (const CpuFeature feature : need.features)
      if (!features.has(feature)) return "the processor lacks " + std::string(vm::name(feature));
  }
  if (detail::kernels_of(set) == nullptr) return "the compiler of this build does not know it";
  return "";
}

CopyPlan CopyPlan::for_machine(const CpuFeatures& features) {
  CopyPlan plan;
  plan.instruction_set = best_set(features);
  plan.thread_bytes = 4 * MiB;  // below that a thread takes longer to start than to copy
  if (plan.instruction_set == InstructionSet::scalar) return plan;  // no stores past the caches
  const std::uint64_t first = features.cache_bytes(1);
  const std::uint64_t last = std::max({first, features.cache_bytes(2), features.cache_bytes(3)});
  plan.prefetch_distance = 16 * KiB;
  plan.stream_hint_from = 64 * KiB;
  if (detail::have_string_instructions && features.has(CpuFeature::erms) && first != 0) {
    // While both ends fit the first cache, vector loops are ahead of the instruction (bench/cpp/mem/simd_memcpy.cpp).
    plan.string_from = static_cast<std::size_t>(first / 2);
    plan.fill_string_from = static_cast<std::size_t>(first);
  }
  // The instruction of processors with FSRM does not fetch the lines that it overwrites, and beyond the caches is ahead
  // of streaming stores too. For the others: the source goes through the caches as well, so that a copy of half their
  // size already pushes itself out.
  const bool string_streams = plan.string_from != never && features.has(CpuFeature::fsrm);
  if (last != 0 && !string_streams) plan.stream_from = static_cast<std::size_t>(last / 4 * 3);
  return plan;
}

CopyPlan CopyPlan::detect() { return for_machine(CpuFeatures::detect()); }

Method CopyPlan::method(std::size_t size, bool hint) const noexcept {
  if (size <= small_copy) return Method::small;
  if (size >= stream_from || (hint && size >= stream_hint_from)) return Method::stream;
  return size >= string_from ? Method::string : Method::vector;
}

}  // namespace vm::mem::simd
