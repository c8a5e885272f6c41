#pragma once
/// \file
/// A TLB level for arrays of addresses.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "vm/mem/tlb/batch_probe.hpp"
#include "vm/mem/tlb/flush.hpp"

namespace vm::mem::tlb {

/// Direct-mapped translations of one context, each of a page of the smallest size or of such a piece of a larger one.
/// Not thread-safe: whoever uses it has it for himself meanwhile, so that its look-ups are plain vector loads.
///
/// A look-up leaves no trace. What stays is decided by votes: a sample of the look-ups votes for the pages that they
/// are about, a page that is there gains by it, and one whose place another wants loses until it has to go (Boyer and
/// Moore's majority vote, as Misra and Gries count frequent items, 1982). So a place goes to the page in it that is
/// asked for most, and a stream of pages that come once does not wash the others out.
class BatchLevel {
 public:
  /// 256 KiB: what an L2 cache of today can lend.
  static constexpr std::size_t entries = std::size_t{1} << 14;
  /// Votes that a page can have: few, so that a change of the stream is followed soon.
  static constexpr std::uint64_t most_votes = 7;

  enum class Voted : std::uint8_t { stayed, filled, replaced };

  /// `page_shift` is log2 of the bytes of the smallest page, at least 12. \throws std::bad_alloc
  BatchLevel(Context context, unsigned page_shift) : BatchLevel(context, page_shift, detail::best_batch_probe()) {}
  /// Looks up with `probe`: for those who compare kernels.
  BatchLevel(Context context, unsigned page_shift, detail::BatchProbe probe);

  Context context() const noexcept { return context_; }

  /// Fills `paddr` and `facts` for the addresses that are there and lists the others in `missed` and `missed_vaddr`, as
  /// detail::BatchProbeCall says. Returns how many those are.
  std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, std::uint16_t* facts,
                     std::uint32_t* missed, std::uint64_t* missed_vaddr, std::uint32_t first) const noexcept {
    return probe_({entries_.get(), entries - 1, page_shift_, vaddr, count, paddr, facts, missed, missed_vaddr, first});
  }

  /// Votes for the page of `vaddr`, which is at `paddr`; `facts` and the page's size are kept with it when it moves in.
  /// `paddr` is below 2^(44 + page_shift).
  Voted vote(std::uint64_t vaddr, std::uint64_t paddr, std::uint16_t facts, unsigned size_log2) noexcept;
  /// Votes for the page of `vaddr` if it is there.
  void vote(std::uint64_t vaddr) noexcept;

  /// Drops what `request` covers, and more where it cannot tell: it does not know which translations are global, and
  /// takes them for global when a page is flushed and for none when an ASID is. Returns how many entries went.
  std::size_t flush(const FlushRequest& request) noexcept;
  /// Live entries. Goes through all.
  std::size_t size() const noexcept;

 private:
  detail::BatchEntry& entry_of(std::uint64_t page) noexcept { return entries_[detail::batch_place(page, entries - 1)]; }
  std::size_t clear() noexcept;

  Context context_;
  unsigned page_shift_;
  detail::BatchProbe probe_;
  std::uint64_t sizes_ = 0;  // log2 of the page sizes of entries since everything was dropped, one bit each
  std::unique_ptr<detail::BatchEntry[]> entries_;
};

}  // namespace vm::mem::tlb
