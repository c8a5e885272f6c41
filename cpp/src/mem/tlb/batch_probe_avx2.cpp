/// \file
/// The batch probe for AVX2.

#include "vm/mem/tlb/batch_probe.hpp"

#if defined(VM_HAVE_AVX2_KERNELS)

#include <immintrin.h>

namespace vm::mem::tlb::detail {
namespace {

constexpr std::size_t lanes = 4;

__m128i load_entry(const BatchEntry* entries, std::uint64_t place) noexcept {
  return _mm_load_si128(reinterpret_cast<const __m128i*>(entries + place));
}

// Entries are loaded whole and transposed, which takes less time than gathers.
std::size_t probe(const BatchProbeCall& call) noexcept {
  const __m256i offset_mask = _mm256_set1_epi64x((1LL << call.page_shift) - 1);
  const __m256i place_mask = _mm256_set1_epi64x(static_cast<long long>(call.mask));
  const __m128i page_shift = _mm_cvtsi32_si128(static_cast<int>(call.page_shift));
  const __m256i low16 = _mm256_setr_epi8(0, 1, 8, 9, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                         0, 1, 8, 9, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  const std::size_t whole = call.count - call.count % lanes;
  std::size_t missed = 0;
  for (std::size_t i = 0; i < whole; i += lanes) {
    const __m256i vaddr = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(call.vaddr + i));
    const __m256i page = _mm256_srl_epi64(vaddr, page_shift);
    alignas(32) std::uint64_t place[lanes];
    _mm256_store_si256(
        reinterpret_cast<__m256i*>(place),
        _mm256_and_si256(_mm256_xor_si256(page, _mm256_srli_epi64(page, static_cast<int>(batch_fold))), place_mask));
    const __m256i even = _mm256_inserti128_si256(_mm256_castsi128_si256(load_entry(call.entries, place[0])),
                                                 load_entry(call.entries, place[2]), 1);
    const __m256i odd = _mm256_inserti128_si256(_mm256_castsi128_si256(load_entry(call.entries, place[1])),
                                                load_entry(call.entries, place[3]), 1);
    const __m256i there = _mm256_unpacklo_epi64(even, odd);
    const __m256i answer = _mm256_unpackhi_epi64(even, odd);
    const __m256i frame = _mm256_sll_epi64(_mm256_srli_epi64(answer, static_cast<int>(batch_frame_shift)), page_shift);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(call.paddr + i),
                        _mm256_or_si256(frame, _mm256_and_si256(vaddr, offset_mask)));
    const __m256i picked = _mm256_shuffle_epi8(answer, low16);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(call.facts + i),
                     _mm_unpacklo_epi32(_mm256_castsi256_si128(picked), _mm256_extracti128_si256(picked, 1)));
    const auto equal = static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(there, page))));
    for (unsigned lane = 0; lane < lanes; ++lane) {
      call.missed[missed] = call.first + static_cast<std::uint32_t>(i) + lane;
      call.missed_vaddr[missed] = call.vaddr[i + lane];
      missed += ~equal >> lane & 1;
    }
  }
  const std::uint64_t offset = (std::uint64_t{1} << call.page_shift) - 1;
  for (std::size_t i = whole; i < call.count; ++i) {
    const std::uint64_t vaddr = call.vaddr[i];
    const std::uint64_t page = vaddr >> call.page_shift;
    const BatchEntry& entry = call.entries[(page ^ page >> batch_fold) & call.mask];
    call.paddr[i] = entry.answer >> batch_frame_shift << call.page_shift | (vaddr & offset);
    call.facts[i] = static_cast<std::uint16_t>(entry.answer);
    call.missed[missed] = call.first + static_cast<std::uint32_t>(i);
    call.missed_vaddr[missed] = vaddr;
    missed += entry.page != page ? 1 : 0;
  }
  return missed;
}

}  // namespace

BatchProbe avx2_batch_probe() noexcept { return probe; }

}  // namespace vm::mem::tlb::detail

#else

namespace vm::mem::tlb::detail {
BatchProbe avx2_batch_probe() noexcept { return nullptr; }
}  // namespace vm::mem::tlb::detail

#endif
