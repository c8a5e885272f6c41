#include "vm/mem/mmu/tlb_front.hpp"

#include <algorithm>
#include <utility>

namespace vm::mem {

using paging::PackedInfo;
using tlb::BatchLevel;

static_assert(tlb::detail::batch_probe_slack <= paging::BatchFront::slack);

TlbFront::TlbFront(const Key& key, unsigned page_shift, const tlb::FlushLog& log)
    : key_(key), log_(log), seen_(log.generation()), level_(key.context, page_shift) {}

void TlbFront::catch_up() noexcept {
  const std::uint64_t upto = log_.generation();
  if (upto == seen_) return;
  // Requests that are gone from the log may have covered anything.
  bool gone = upto - seen_ > tlb::FlushLog::capacity;
  for (std::uint64_t next = seen_ + 1; next <= upto && !gone; ++next) {
    tlb::FlushRequest request;
    gone = !log_.read(next, request);
    if (!gone) counts_.flushed += level_.flush(request);
  }
  if (gone) forget_all();
  seen_ = upto;
}

void TlbFront::forget_all() noexcept { counts_.flushed += level_.flush(tlb::FlushRequest::all()); }

std::size_t TlbFront::answer(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                             const Missed& missed) noexcept {
  catch_up();
  const std::size_t misses = level_.lookup(vaddr, count, paddr, info, missed.index, missed.vaddr, missed.first);
  counts_.hits += count - misses;
  counts_.misses += misses;
  for (std::size_t i = turn_++ % vote_interval; i < count; i += vote_interval) level_.vote(vaddr[i]);
  return misses;
}

// What is learned was walked after the last catch_up(), so a flush since then will be read before it is answered.
void TlbFront::learn_some(const std::uint64_t* vaddr, std::size_t first, std::size_t count, std::size_t step,
                          const std::uint64_t* paddr, const PackedInfo* info) noexcept {
  for (std::size_t i = first; i < count; i += step) {
    if (paging::is_fault(info[i])) continue;
    const BatchLevel::Voted voted = level_.vote(vaddr[i], paddr[i], info[i], info[i] >> 6 & 63);
    counts_.fills += voted != BatchLevel::Voted::stayed ? 1 : 0;
    counts_.evictions += voted == BatchLevel::Voted::replaced ? 1 : 0;
  }
}

void TlbFront::learn(const std::uint64_t* vaddr, std::size_t count, const std::uint64_t* paddr,
                     const PackedInfo* info) noexcept {
  learn_some(vaddr, turn_ % vote_interval, count, vote_interval, paddr, info);
}

void TlbFront::learn_all(const std::uint64_t* vaddr, std::size_t count, const std::uint64_t* paddr,
                         const PackedInfo* info) noexcept {
  if (log_.generation() == seen_) learn_some(vaddr, 0, count, 1, paddr, info);
}

std::size_t TlbFront::count_known(const std::uint64_t* vaddr, std::size_t count) noexcept {
  catch_up();
  std::uint64_t paddr[block], missed_vaddr[block + slack];
  PackedInfo info[block];
  std::uint32_t missed[block + slack];
  const std::size_t asked = std::min(count, block);
  return asked - level_.lookup(vaddr, asked, paddr, info, missed, missed_vaddr, 0);
}

tlb::LevelStats TlbFront::take_counts() noexcept { return std::exchange(counts_, {}); }

std::unique_ptr<TlbFront> TlbFronts::take(const TlbFront::Key& key, unsigned page_shift, const tlb::FlushLog& log) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found =
        std::find_if(kept_.rbegin(), kept_.rend(), [&](const auto& front) { return front->key() == key; });
    if (found != kept_.rend()) {
      std::unique_ptr<TlbFront> front = std::move(*found);
      kept_.erase(std::next(found).base());
      return front;
    }
  }
  return std::make_unique<TlbFront>(key, page_shift, log);
}

void TlbFronts::give_back(std::unique_ptr<TlbFront> front) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (kept_.size() == most_kept) kept_.erase(kept_.begin());
  kept_.push_back(std::move(front));
}

void TlbFronts::clear() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  kept_.clear();
}

}  // namespace vm::mem
