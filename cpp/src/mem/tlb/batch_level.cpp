#include "vm/mem/tlb/batch_level.hpp"

#include <algorithm>

namespace vm::mem::tlb {

using detail::BatchEntry;

namespace {

constexpr std::uint64_t one_vote = std::uint64_t{1} << detail::batch_votes_shift;
constexpr std::uint64_t all_votes = BatchLevel::most_votes * one_vote;
static_assert(BatchLevel::most_votes < 16, "four bits of an entry");

}  // namespace

BatchLevel::BatchLevel(Context context, unsigned page_shift, detail::BatchProbe probe)
    : context_(context), page_shift_(page_shift), probe_(probe), entries_(new BatchEntry[entries]) {
  std::fill_n(entries_.get(), entries, BatchEntry{detail::no_page, 0});
}

BatchLevel::Voted BatchLevel::vote(std::uint64_t vaddr, std::uint64_t paddr, std::uint16_t facts,
                                   unsigned size_log2) noexcept {
  const std::uint64_t page = vaddr >> page_shift_;
  BatchEntry& entry = entry_of(page);
  if (entry.page == page) {
    if ((entry.answer & all_votes) != all_votes) entry.answer += one_vote;
    return Voted::stayed;
  }
  if (entry.page != detail::no_page && (entry.answer & all_votes) != 0) {
    entry.answer -= one_vote;
    return Voted::stayed;
  }
  const Voted result = entry.page == detail::no_page ? Voted::filled : Voted::replaced;
  entry = {page, paddr >> page_shift_ << detail::batch_frame_shift | one_vote | facts};
  sizes_ |= std::uint64_t{1} << size_log2;
  return result;
}

void BatchLevel::vote(std::uint64_t vaddr) noexcept {
  const std::uint64_t page = vaddr >> page_shift_;
  BatchEntry& entry = entry_of(page);
  if (entry.page == page && (entry.answer & all_votes) != all_votes) entry.answer += one_vote;
}

std::size_t BatchLevel::flush(const FlushRequest& request) noexcept {
  if (sizes_ == 0) return 0;
  if (request.scope == FlushScope::all) return clear();
  if (request.context.vmid != context_.vmid) return 0;
  if (request.scope == FlushScope::non_global) return clear();
  if (request.scope == FlushScope::asid) return request.context.asid == context_.asid ? clear() : 0;
  if (request.size == 0) return 0;
  // The largest page that may be here in pieces decides how far around the range they can be.
  unsigned largest = 63;
  while ((sizes_ >> largest & 1) == 0) --largest;
  const std::uint64_t around = (std::uint64_t{1} << largest) - 1;
  const std::uint64_t last =
      request.size - 1 > UINT64_MAX - request.vaddr ? UINT64_MAX : request.vaddr + (request.size - 1);
  const std::uint64_t first_page = (request.vaddr & ~around) >> page_shift_;
  const std::uint64_t last_page = (last | around) >> page_shift_;
  std::size_t gone = 0;
  const auto drop = [&gone](BatchEntry& entry) {
    entry = {detail::no_page, 0};
    ++gone;
  };
  if (last_page - first_page < entries) {
    for (std::uint64_t page = first_page; page <= last_page; ++page)
      if (BatchEntry& entry = entry_of(page); entry.page == page) drop(entry);
  } else {
    for (std::size_t i = 0; i < entries; ++i)
      if (entries_[i].page >= first_page && entries_[i].page <= last_page && entries_[i].page != detail::no_page)
        drop(entries_[i]);
  }
  return gone;
}

std::size_t BatchLevel::clear() noexcept {
  const std::size_t gone = size();
  std::fill_n(entries_.get(), entries, BatchEntry{detail::no_page, 0});
  sizes_ = 0;
  return gone;
}

std::size_t BatchLevel::size() const noexcept {
  return static_cast<std::size_t>(std::count_if(entries_.get(), entries_.get() + entries,
                                                [](const BatchEntry& e) { return e.page != detail::no_page; }));
}

}  // namespace vm::mem::tlb
