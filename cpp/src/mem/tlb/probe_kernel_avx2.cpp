/// \file
/// The probe kernel for AVX2. The only file of this room compiled with that flag.

#include "vm/mem/tlb/probe_kernel.hpp"

#if defined(VM_HAVE_AVX2_KERNELS) && !defined(VM_TLB_WORDWISE_MATCH)

#include <immintrin.h>

#include "mem/tlb/probe_loop.hpp"

namespace vm::mem::tlb::detail {
namespace {

class Avx2Tags {
 public:
  explicit Avx2Tags(unsigned size) noexcept
      : size_(_mm256_set1_epi64x(static_cast<long long>(size))),
        page_(_mm256_set1_epi64x(static_cast<long long>(~std::uint64_t{0} << size))) {}
  // A vector load is no atomic access in the language's sense: see detail::match4, whose argument is this one's. Each
  // 64-bit word of it is read whole, which is what x86 does with aligned ones, and a mixture of versions among the
  // words only leads to a way whose meta and frame are then read and the sequence after them.
  unsigned match4(const Word* words, const std::uint64_t* vaddr) const noexcept {
    const __m256i address = _mm256_castpd_si256(_mm256_broadcast_sd(reinterpret_cast<const double*>(vaddr)));
    const __m256i tag = _mm256_or_si256(_mm256_and_si256(address, page_), size_);
    const __m256i equal = _mm256_cmpeq_epi64(_mm256_load_si256(reinterpret_cast<const __m256i*>(words)), tag);
    std::atomic_signal_fence(std::memory_order_acq_rel);
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(equal)));
  }

 private:
  __m256i size_;
  __m256i page_;
};

ProbeProgress probe(const ProbeCall& call) noexcept { return probe_loop<Avx2Tags>(call); }

}  // namespace

ProbeKernel avx2_probe_kernel() noexcept { return probe; }

}  // namespace vm::mem::tlb::detail

#else

namespace vm::mem::tlb::detail {
ProbeKernel avx2_probe_kernel() noexcept { return nullptr; }
}  // namespace vm::mem::tlb::detail

#endif
