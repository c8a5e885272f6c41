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

/// A small batch on its way through the TLB.
class Mmu::Batch {
 public:
  Batch(Mmu& mmu, const std::uint64_t* vaddr, std::uint64_t* paddr, PackedInfo* info, const BatchRequest& request)
      : mmu_(mmu), vaddr_(vaddr), paddr_(paddr), info_(info), request_(request) {}

  /// Answers what hits, and walks each of the others into the TLB.
  void translate(std::size_t count) {
    for (std::size_t at = 0; at < count; at += block) {
      const std::size_t some = std::min(block, count - at);
      mmu_.tlb_->lookup(vaddr_ + at, some, mmu_.context_, hits_, found_);
      for (std::size_t i = 0; i < some; ++i) {
        const tlb::Hit& hit = hits_[i];
        if (found_[i] && hit.allows(request_.access, request_.privilege)) {
          store(at + i, hit.paddr, pack_success(hit.rights, hit.size_log2, hit.level));
        } else {
          const paging::Translation t = mmu_.miss(vaddr_[at + i], request_.access, request_.privilege);
          store(at + i, t.ok() ? t.paddr : no_address, pack(t));
        }
      }
    }
  }

 private:
  static constexpr std::size_t block = 256;

  void store(std::size_t i, std::uint64_t paddr, PackedInfo info) {
    paddr_[i] = paddr;
    info_[i] = info;
  }

  Mmu& mmu_;
  const std::uint64_t* vaddr_;
  std::uint64_t* paddr_;
  PackedInfo* info_;
  const BatchRequest& request_;
  tlb::Hit hits_[block];
  bool found_[block];
};

void Mmu::translate(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                    const BatchRequest& request) {
  regions_.get();  // ClosedError before anything is touched
  const bool alone = request.threads == 1 && request.engine == paging::Engine::automatic;
  if (!alone || tags_) {
    walk_all(vaddr, count, paddr, info, request, nullptr);
    counters_.add(bypassed, count);
  } else if (count < BatchGuide::smallest_measured) {
    Batch(*this, vaddr, paddr, info, request).translate(count);
  } else {
    translate_large(vaddr, count, paddr, info, request);
  }
}

void Mmu::translate_large(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                          const BatchRequest& request) {
  const auto page_shift = static_cast<unsigned>(__builtin_ctzll(space_->smallest_page()));
  std::unique_ptr<TlbFront> front =
      fronts_.take({context_, request.access, request.privilege}, page_shift, tlb_->flush_log());
  const std::size_t first = guide_.sample_begin(count), sample = BatchGuide::sample_size(count);
  const std::size_t known = front->count_known(vaddr + first, sample);
  const bool through = config_.batches == BatchWay::measured ? guide_.through_tlb(known, sample)
                                                             : config_.batches == BatchWay::through_tlb;

  const Clock::time_point start = Clock::now();
  const bool complete = walk_all(vaddr, count, paddr, info, request, through ? front.get() : nullptr);
  const double took_ns = nanoseconds_since(start);

  if (!through) {
    counters_.add(bypassed, count);
    if (complete) {
      guide_.record_walker(took_ns, count);
      learn_sample(*front, vaddr + first, sample, request);
    }
  }
  const tlb::LevelStats counts = front->take_counts();
  if (through && complete) guide_.record_tlb(took_ns, count, counts.misses);
  count_arrays(counts);
  fronts_.give_back(std::move(front));
}

/// What the front keeps of a batch that went around it. Walked again from a copy: the caller's array may have been
/// written since it was read, and the address of one page with the answer of another would mislead everybody later.
void Mmu::learn_sample(TlbFront& front, const std::uint64_t* vaddr, std::size_t count, const BatchRequest& request) {
  const std::vector<std::uint64_t> asked(vaddr, vaddr + count);
  std::vector<std::uint64_t> paddr(count);
  std::vector<PackedInfo> info(count);
  BatchRequest again = request;
  again.keep_going = nullptr;
  if (walk_all(asked.data(), count, paddr.data(), info.data(), again, nullptr))
    front.learn_all(asked.data(), count, paddr.data(), info.data());
}

void Mmu::count_arrays(const tlb::LevelStats& counts) {
  counters_.add(array_hits, counts.hits);
  counters_.add(array_misses, counts.misses);
  counters_.add(array_fills, counts.fills);
  counters_.add(array_evictions, counts.evictions);
  counters_.add(array_flushed, counts.flushed);
}

/// Whether all of it was done, at the first attempt.
bool Mmu::walk_all(const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr, PackedInfo* info,
                   const BatchRequest& request, TlbFront* front) {
  // The batch walker keeps tables for as long as it works. As in walk_and_fill, one that was freed may hold another's
  // entries by the time that it is read again. What the front has learned of such a walk, or of one that a flush of the
  // TLB alone overtook, must not outlive it.
  constexpr int attempts = 3;
  bool stopped = false;
  BatchRequest watched = request;
  watched.front = front;
  if (request.keep_going) watched.keep_going = [&] { return !(stopped = stopped || !request.keep_going()); };
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const std::uint64_t before = walk_cache_->begin_fill();
    const std::uint64_t flushes = tlb_->flush_log().generation();
    space_->translate(vaddr, count, paddr, info, watched);
    const bool overtaken = walk_cache_->begin_fill() != before;
    if (front != nullptr && (overtaken || tlb_->flush_log().generation() != flushes)) front->forget_all();
    if (stopped || !overtaken) return !stopped && attempt == 0;
  }
  // `keep_going` may wait for what a thread holds that waits for this lock (Python's GIL).
  watched.keep_going = nullptr;
  watched.front = nullptr;
  const std::lock_guard<std::mutex> lock(change_);
  space_->translate(vaddr, count, paddr, info, watched);
  return false;
}

}  // namespace vm::mem
