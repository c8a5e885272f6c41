// Batches through the MMU.

#include <algorithm>
#include <chrono>
#include <vector>

#include "vm/mem/mmu/mmu.hpp"

namespace vm::mem {

using paging::BatchRequest;
using paging::no_address;
using paging::pack_success;
using paging::PackedInfo;

namespace {

using Clock = std::chrono::steady_clock;

double nanoseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

}  // namespace

/// One batch on its way through the TLB.
class Mmu::Batch {
 public:
  Batch(Mmu& mmu, const std::uint64_t* vaddr, std::uint64_t* paddr, PackedInfo* info, const BatchRequest& request)
      : mmu_(mmu), vaddr_(vaddr), paddr_(paddr), info_(info), request_(request) {}

  /// Answers what hits in [first, last) and remembers the rest. Returns how many hit.
  std::size_t look_up(std::size_t first, std::size_t last) {
    const std::size_t before = missed_.size();
    for (std::size_t at = first; at < last; at += block) {
      const std::size_t count = std::min(block, last - at);
      mmu_.tlb_->lookup(vaddr_ + at, count, mmu_.context_, hits_, found_);
      for (std::size_t i = 0; i < count; ++i) {
        const tlb::Hit& hit = hits_[i];
        if (!found_[i] || !hit.allows(request_.access, request_.privilege)) {
          missed_.push_back(at + i);
          continue;
        }
        paddr_[at + i] = hit.paddr;
        info_[at + i] = pack_success(hit.rights, hit.size_log2, hit.level);
      }
    }
    return last - first - (missed_.size() - before);
  }

  /// Walks what has missed so far; every `fill_interval`-th element alone and into the TLB.
  void walk_missed(std::size_t fill_interval) {
    walk_vaddr_.clear();
    for (std::size_t m = 0; m < missed_.size(); ++m) {
      if (m % fill_interval == 0) mmu_.miss(vaddr_[missed_[m]], request_.access, request_.privilege);
      walk_vaddr_.push_back(vaddr_[missed_[m]]);
    }
    walk_paddr_.resize(missed_.size());
    walk_info_.resize(missed_.size());
    mmu_.walk_all(walk_vaddr_.data(), missed_.size(), walk_paddr_.data(), walk_info_.data(), request_);
    for (std::size_t m = 0; m < missed_.size(); ++m) {
      paddr_[missed_[m]] = walk_paddr_[m];
      info_[missed_[m]] = walk_info_[m];
    }
    missed_.clear();
  }

 private:
  static constexpr std::size_t block = 256;

  Mmu& mmu_;
  const std::uint64_t* vaddr_;
  std::uint64_t* paddr_;
  PackedInfo* info_;
  const BatchRequest& request_;
  tlb::Hit hits_[block];
  bool found_[block];
  std::vector<std::size_t> missed_;
  std::vector<std::uint64_t> walk_vaddr_, walk_paddr_;
  std::vector<PackedInfo> walk_info_;
};

void Mmu::translate(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                    const BatchRequest& request) {
  regions_.get();  // ClosedError before anything is touched
  const bool alone = request.threads == 1 && request.engine == paging::Engine::automatic;
  if (!alone || tags_ || count == 0) return go_around(vaddr, count, paddr, info, request, 0);

  Batch batch(*this, vaddr, paddr, info, request);
  if (count < BatchGuide::smallest_measured) {
    batch.look_up(0, count);
    batch.walk_missed(1);
    return;
  }
  const std::size_t sample = BatchGuide::sample_size(count);
  const Clock::time_point start = Clock::now();
  const std::size_t hits = batch.look_up(0, sample);
  const double lookup_ns = nanoseconds_since(start) / static_cast<double>(sample);
  if (!guide_.through_tlb(lookup_ns, hits, sample))
    return go_around(vaddr, count, paddr, info, request, guide_.fill_interval());

  // Enough misses together that the walker's own caches pay.
  constexpr std::size_t chunk = std::size_t{1} << 18;
  for (std::size_t at = sample; at < count; at += chunk) {
    batch.look_up(at, std::min(count, at + chunk));
    batch.walk_missed(BatchGuide::miss_interval);
    if (request.keep_going && !request.keep_going()) return;
  }
}

void Mmu::walk_all(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                   const BatchRequest& request) {
  // The batch walker keeps tables for as long as it works. As in walk_and_fill, one that was freed may hold another's
  // entries by the time that it is read again.
  constexpr int attempts = 3;
  bool stopped = false;
  BatchRequest watched = request;
  if (request.keep_going) watched.keep_going = [&] { return !(stopped = stopped || !request.keep_going()); };
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const std::uint64_t before = walk_cache_->begin_fill();
    space_->translate(vaddr, count, paddr, info, watched);
    if (stopped || walk_cache_->begin_fill() == before) return;
  }
  // `keep_going` may wait for what a thread holds that waits for this lock (Python's GIL).
  watched.keep_going = nullptr;
  const std::lock_guard<std::mutex> lock(change_);
  space_->translate(vaddr, count, paddr, info, watched);
}

void Mmu::go_around(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                    const BatchRequest& request, std::size_t fill_interval) {
  for (std::size_t i = 0; fill_interval != 0 && i < count; i += fill_interval)
    if (!tlb_->contains(vaddr[i], context_)) miss(vaddr[i], request.access, request.privilege);
  const Clock::time_point start = Clock::now();
  walk_all(vaddr, count, paddr, info, request);
  if (count >= BatchGuide::smallest_measured && request.threads == 1)
    guide_.record_walker(nanoseconds_since(start), count);
  counters_.add(bypassed, count);
}

}  // namespace vm::mem
