#include "vm/mem/tlb/batch_probe.hpp"

#include "vm/core/cpu_features.hpp"

namespace vm::mem::tlb::detail {

// Without a jump for each element: whether one is there cannot be predicted, and so the loads of many are under way at
// once.
std::size_t baseline_batch_probe(const BatchProbeCall& given) noexcept {
  const BatchProbeCall call = given;  // a copy that nobody else can point to stays in registers
  const std::uint64_t offset = (std::uint64_t{1} << call.page_shift) - 1;
  std::size_t missed = 0;
  for (std::size_t i = 0; i < call.count; ++i) {
    const std::uint64_t vaddr = call.vaddr[i];
    const std::uint64_t page = vaddr >> call.page_shift;
    const BatchEntry& entry = call.entries[batch_place(page, call.mask)];
    const std::uint64_t answer = entry.answer;
    call.paddr[i] = answer >> batch_frame_shift << call.page_shift | (vaddr & offset);
    call.facts[i] = static_cast<std::uint16_t>(answer);
    call.missed[missed] = call.first + static_cast<std::uint32_t>(i);
    call.missed_vaddr[missed] = vaddr;
    missed += entry.page != page ? 1 : 0;
  }
  return missed;
}

BatchProbe best_batch_probe() {
  // Facts do not change while a process runs; a copy in each extension module is as good as one.
  static const BatchProbe best = [] {
    const CpuFeatures features = CpuFeatures::detect();
    const bool avx512 = features.has(CpuFeature::avx512f) && features.has(CpuFeature::avx512dq) &&
                        features.has(CpuFeature::avx512bw) && features.has(CpuFeature::avx512vl);
    BatchProbe probe = avx512 ? avx512_batch_probe() : nullptr;
    if (probe == nullptr && features.has(CpuFeature::avx2)) probe = avx2_batch_probe();
    return probe != nullptr ? probe : baseline_batch_probe;
  }();
  return best;
}

}  // namespace vm::mem::tlb::detail
