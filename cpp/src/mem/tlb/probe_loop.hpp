#pragma once
/// \file
/// The loop of all probe kernels. Each instruction set compiles it with its own way to compare the tags of a set:
/// `Tags(size)` knows the tags of a page size, `match4(words, vaddr)` compares that of `*vaddr` as detail::match4 does.

#include "vm/mem/tlb/probe_kernel.hpp"

namespace vm::mem::tlb::detail {
namespace {

enum class Probed : std::uint8_t { hit, miss, unsure };

// What ShardedTlb::find_quickly() does, and its argument for the orders holds here; but several contexts of one page
// in a set are told apart.
template <class Tags, bool Usual>
VM_TLB_ALWAYS_INLINE inline Probed probe_size(const ProbeCall& call, std::size_t i, unsigned size,
                                              const Tags& tags) noexcept {
  const std::uint64_t vaddr = call.vaddr[i];
  const std::uint64_t page = vaddr >> size;
  const unsigned stride = Usual ? 4 : call.stride;
  const Word* set = Usual ? call.words + std::size_t{call.index.masked(page)} * usual_set_words
                          : call.words + std::size_t{call.index(page)} * call.set_words;
  const std::uint64_t before = set[0].load(std::memory_order_acquire);
  unsigned equal = tags.match4(set + set_header_words, call.vaddr + i);
  for (unsigned way = 4; !Usual && way < stride; way += 4)
    equal |= tags.match4(set + set_header_words + way, call.vaddr + i) << way;
  for (; equal != 0; equal &= equal - 1) {
    const Word* at = set + set_header_words + lowest_bit(equal);
    const std::uint64_t meta = at[2 * stride].load(std::memory_order_acquire);
    if (!answers_quickly(meta, call.context)) {
      if (!answers(meta, call.context)) continue;
      return Probed::unsure;  // the first use of a prefetched entry
    }
    const std::uint64_t frame = at[stride].load(std::memory_order_acquire);
    if (set[0].load(std::memory_order_relaxed) != (before & ~std::uint64_t{1})) return Probed::unsure;
    store_hit(call.hit[i], frame, meta, size, vaddr);
    return Probed::hit;
  }
  return Probed::miss;
}

template <class Tags, bool Usual, bool OneSize>
VM_TLB_ALWAYS_INLINE inline ProbeProgress probe_each(const ProbeCall& given) noexcept {
  // A copy that nobody else can point to stays in registers.
  const ProbeCall call = given;
  const unsigned only = OneSize ? lowest_bit(call.sizes) : 0;
  const Tags tags_of_only(only);
  std::size_t hits = 0;
  for (std::size_t i = 0; i < call.count; ++i) {
    Probed probed = Probed::miss;
    if (OneSize) {
      probed = probe_size<Tags, Usual>(call, i, only, tags_of_only);
    } else {
      for (std::uint64_t sizes = call.sizes; sizes != 0 && probed == Probed::miss; sizes &= sizes - 1) {
        const unsigned size = lowest_bit(sizes);
        probed = probe_size<Tags, Usual>(call, i, size, Tags(size));
      }
    }
    if (probed == Probed::unsure) return {i, hits};
    call.found[i] = probed == Probed::hit;
    hits += probed == Probed::hit ? 1 : 0;
  }
  return {call.count, hits};
}

template <class Tags>
VM_TLB_ALWAYS_INLINE inline ProbeProgress probe_loop(const ProbeCall& call) noexcept {
  const bool usual = call.stride == 4 && call.index.is_power_of_two();
  const bool one_size = call.sizes != 0 && (call.sizes & (call.sizes - 1)) == 0;
  if (usual) return one_size ? probe_each<Tags, true, true>(call) : probe_each<Tags, true, false>(call);
  return one_size ? probe_each<Tags, false, true>(call) : probe_each<Tags, false, false>(call);
}

}  // namespace
}  // namespace vm::mem::tlb::detail
