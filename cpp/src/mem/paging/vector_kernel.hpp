#pragma once
/// \file
/// The leaf kernel over a vector type `V` of 64-bit lanes. Included only by the files that are compiled for one
/// instruction set; `V` has internal linkage there, and so has everything instantiated over it (see leaf.hpp).
///
/// `V` offers: lanes, Mask, V(uint64), load, store, + - & | ^ >> << (by a number), shift_right (by lanes), gather,
/// gather_if, store_low16, prefetch_each; for masks: equal, is_zero, is_negative, & | ~, select, bits.

#include "mem/paging/leaf_kernel.hpp"

namespace vm::mem::paging {
namespace {

template <class V, class Leaf, unsigned PageShift, unsigned IndexBits>
class VectorKernel {
  using Mask = typename V::Mask;
  static constexpr unsigned span = PageShift + IndexBits;
  static constexpr std::uint64_t span_mask = (std::uint64_t{1} << span) - 1;
  static constexpr std::uint64_t page_mask = (std::uint64_t{1} << PageShift) - 1;
  static constexpr std::uint64_t index_mask = (std::uint64_t{1} << IndexBits) - 1;

  struct Found {
    V base = V(std::uint64_t{0});
    Mask uniform{};
    Mask table{};
    V entry_at = V(std::uint64_t{0});
  };

  template <bool Tagged>
  static Found find(const LeafCacheView& cache, V vaddr) {
    const V number = (vaddr >> span) - V(cache.first_span);
    const V slot = number & V(cache.slot_mask);
    const V base = gather(V(reinterpret_cast<std::uintptr_t>(cache.slots)) + (slot << 3));
    Mask hit = is_zero(number ^ slot);
    if constexpr (Tagged) hit = equal(gather(V(reinterpret_cast<std::uintptr_t>(cache.tags)) + (slot << 3)), number);
    const Mask uniform = hit & is_negative(base);
    const V index = (vaddr >> PageShift) & V(index_mask);
    return {base, uniform, hit & ~uniform & ~is_zero(base), (base & V(slot_host_mask)) + (index << 3)};
  }

  // Finds, and asks for the entries. Lanes without a table point at the slots: a line that is in the cache anyway.
  template <bool Tagged>
  static Found find_and_prefetch(const LeafKernelCall& call, std::size_t i) {
    const Found f = find<Tagged>(call.cache, V::load(call.vaddr + i));
    prefetch_each(select(f.table, f.entry_at, V(reinterpret_cast<std::uintptr_t>(call.cache.slots))));
    return f;
  }

  static unsigned answer(const LeafKernelCall& call, std::size_t i, const Found& f) {
    const LeafFilter& filter = call.filter;
    const V vaddr = V::load(call.vaddr + i);

    const V entry = gather_if(f.table, f.entry_at);  // 0 in the other lanes
    const V rights = Leaf::template rights<V>(entry, f.base >> slot_host_bits, filter);
    const Mask sound = is_zero((entry ^ V(filter.want)) & V(filter.care));
    const Mask allowed = is_zero((shift_right(V(filter.ok_rights), rights) & V(1)) ^ V(1));
    const Mask translated = f.table & sound & allowed;
    const Mask absent = f.table & is_zero(entry & V(1));  // bit 0 is "present" in every format here

    const V page = Leaf::template address<V>(entry, filter) | (vaddr & V(page_mask));
    const V block = (f.base & V((slot_uniform - 1) & ~span_mask)) | (vaddr & V(span_mask));
    const V block_info = f.base & V(0xFFFF);
    const V page_info = rights | V(pack_success(0, PageShift, 0));
    const V absent_info = V(pack_fault(FaultReason::not_present, 0));
    const Mask faulted = absent | (f.uniform & ~is_zero(block_info & V(packed_fault_bit)));

    select(faulted, V(no_address), select(f.uniform, block, page)).store(call.paddr + i);
    store_low16(select(absent, absent_info, select(f.uniform, block_info, page_info)), call.info + i);
    return bits(~(translated | absent | f.uniform));
  }

  struct Missed {
    std::uint32_t* indices;
    std::size_t count = 0;

    void add(std::size_t base, unsigned lanes) {
      for (; lanes != 0; lanes &= lanes - 1)
        indices[count++] = static_cast<std::uint32_t>(base) + static_cast<unsigned>(__builtin_ctz(lanes));
    }
  };

  template <bool Tagged>
  static void run_plain(const LeafKernelCall& call, std::size_t whole, Missed& missed) {
    for (std::size_t i = 0; i < whole; i += V::lanes)
      missed.add(i, answer(call, i, find<Tagged>(call.cache, V::load(call.vaddr + i))));
  }

  // Two steps a fixed distance apart: while one group's entries are on their way, another's are used.
  template <bool Tagged>
  static void run_ahead(const LeafKernelCall& call, std::size_t whole, Missed& missed) {
    constexpr std::size_t vectors = prefetch_group / V::lanes;
    Found ahead[vectors];
    for (std::size_t i = 0; i < whole && i < prefetch_group; i += V::lanes)
      ahead[i / V::lanes] = find_and_prefetch<Tagged>(call, i);
    for (std::size_t i = 0; i < whole; i += V::lanes) {
      Found& f = ahead[i / V::lanes % vectors];
      missed.add(i, answer(call, i, f));
      if (i + prefetch_group < whole) f = find_and_prefetch<Tagged>(call, i + prefetch_group);
    }
  }

 public:
  static std::size_t run(const LeafKernelCall& call) {
    Missed missed{call.missed};
    const std::size_t whole = call.count - call.count % V::lanes;
    const bool tagged = call.cache.tags != nullptr;
    if (call.prefetch)
      tagged ? run_ahead<true>(call, whole, missed) : run_ahead<false>(call, whole, missed);
    else
      tagged ? run_plain<true>(call, whole, missed) : run_plain<false>(call, whole, missed);
    for (std::size_t i = whole; i < call.count; ++i) missed.add(i, 1);
    return missed.count;
  }
};

template <class V>
LeafKernel vector_kernel_for(LeafShape shape) noexcept {
  switch (shape) {
    case LeafShape::x86: return VectorKernel<V, X86Leaf, 12, 9>::run;
    case LeafShape::riscv: return VectorKernel<V, RiscVLeaf, 12, 9>::run;
    case LeafShape::aarch64_4k: return VectorKernel<V, AArch64Leaf, 12, 9>::run;
    case LeafShape::aarch64_16k: return VectorKernel<V, AArch64Leaf, 14, 11>::run;
    case LeafShape::aarch64_64k: return VectorKernel<V, AArch64Leaf, 16, 13>::run;
  }
  return nullptr;
}

}  // namespace
}  // namespace vm::mem::paging
