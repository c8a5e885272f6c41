#include "vm/mem/tlb/probe_kernel.hpp"

#include "mem/tlb/probe_loop.hpp"
#include "vm/core/cpu_features.hpp"

namespace vm::mem::tlb::detail {
namespace {

class BaselineTags {
 public:
  explicit BaselineTags(unsigned size) noexcept : size_(size) {}
  unsigned match4(const Word* words, const std::uint64_t* vaddr) const noexcept {
    return detail::match4(words, tag_of(*vaddr, size_));
  }

 private:
  unsigned size_;
};

}  // namespace

ProbeProgress baseline_probe_kernel(const ProbeCall& call) noexcept { return probe_loop<BaselineTags>(call); }

ProbeKernel best_probe_kernel() {
  // Facts do not change while a process runs; a copy in each extension module is as good as one.
  static const bool avx2 = CpuFeatures::detect().has(CpuFeature::avx2);
  const ProbeKernel kernel = avx2 ? avx2_probe_kernel() : nullptr;
  return kernel != nullptr ? kernel : baseline_probe_kernel;
}

}  // namespace vm::mem::tlb::detail
