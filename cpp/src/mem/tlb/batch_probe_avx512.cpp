/// \file
/// The batch probe for AVX-512 F, DQ, BW and VL. The only file of this room compiled with those flags.

#include "vm/mem/tlb/batch_probe.hpp"

#if defined(VM_HAVE_AVX512_KERNELS)

// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for mistakes (PR 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

namespace vm::mem::tlb::detail {
namespace {

constexpr std::size_t lanes = 8;
static_assert(lanes <= batch_probe_slack);

// Four entries, the second of each two after the first.
__m512i load_entries(const BatchEntry* entries, const std::uint64_t* place) noexcept {
  const auto entry = [entries](std::uint64_t n) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(entries + n));
  };
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(entry(place[0])), entry(place[2]), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(entry(place[4])), entry(place[6]), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// Entries are loaded whole and transposed, which takes less time than gathers.
std::size_t probe(const BatchProbeCall& call) noexcept {
  const __m512i offset_mask = _mm512_set1_epi64((1LL << call.page_shift) - 1);
  const __m512i place_mask = _mm512_set1_epi64(static_cast<long long>(call.mask));
  const __m128i page_shift = _mm_cvtsi32_si128(static_cast<int>(call.page_shift));
  const __m256i step = _mm256_set1_epi32(static_cast<int>(lanes));
  __m256i index =
      _mm256_add_epi32(_mm256_set1_epi32(static_cast<int>(call.first)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  const std::size_t whole = call.count - call.count % lanes;
  std::size_t missed = 0;
  for (std::size_t i = 0; i < whole; i += lanes) {
    const __m512i vaddr = _mm512_loadu_si512(call.vaddr + i);
    const __m512i page = _mm512_srl_epi64(vaddr, page_shift);
    alignas(64) std::uint64_t place[lanes];
    _mm512_store_si512(place,
                       _mm512_and_si512(_mm512_xor_si512(page, _mm512_srli_epi64(page, batch_fold)), place_mask));
    const __m512i even = load_entries(call.entries, place);
    const __m512i odd = load_entries(call.entries, place + 1);
    const __m512i there = _mm512_unpacklo_epi64(even, odd);
    const __m512i answer = _mm512_unpackhi_epi64(even, odd);
    const __m512i frame = _mm512_sll_epi64(_mm512_srli_epi64(answer, batch_frame_shift), page_shift);
    _mm512_storeu_si512(call.paddr + i, _mm512_or_si512(frame, _mm512_and_si512(vaddr, offset_mask)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(call.facts + i), _mm512_cvtepi64_epi16(answer));
    const __mmask8 absent = _mm512_cmpneq_epi64_mask(there, page);
    _mm512_storeu_si512(call.missed_vaddr + missed, _mm512_maskz_compress_epi64(absent, vaddr));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(call.missed + missed), _mm256_maskz_compress_epi32(absent, index));
    missed += static_cast<unsigned>(__builtin_popcount(absent));
    index = _mm256_add_epi32(index, step);
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

BatchProbe avx512_batch_probe() noexcept { return probe; }

}  // namespace vm::mem::tlb::detail

#else

namespace vm::mem::tlb::detail {
BatchProbe avx512_batch_probe() noexcept { return nullptr; }
}  // namespace vm::mem::tlb::detail

#endif
