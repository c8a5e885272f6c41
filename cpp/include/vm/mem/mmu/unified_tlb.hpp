#pragma once
/// \file
/// `UnifiedTlb`: any TLB of this library behind one face, with the flush policy and the prefetcher that its
/// configuration asks for.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "vm/mem/prefetch/prefetcher.hpp"
#include "vm/mem/prefetch/recent_pages.hpp"
#include "vm/mem/tlb/config.hpp"
#include "vm/mem/tlb/flush_log.hpp"
#include "vm/mem/tlb/flush_queue.hpp"
#include "vm/mem/tlb/tlb.hpp"

namespace vm::mem {

/// What the prefetcher of a `UnifiedTlb` has done. A candidate is refused when the page tables do not map it, late when
/// it was demanded while it waited for its walk, useful when it was hit before it left the TLB.
struct PrefetchReport {
  tlb::PrefetchStats entries;  ///< of the TLB: fills, useful, useless
  prefetch::Stats advice;      ///< of the prefetcher; with `late` and `refused`
};

/// Any number of threads may call anything at once, whatever the strategy: `multi_level` takes a lock for it, the
/// others do not. What `tlb::Tlb` says about each member holds, but for `flush`, which follows the policy.
class UnifiedTlb {
 public:
  /// A TLB with a batch form that costs one virtual call, and a log of its flushes.
  class Inside : public tlb::Tlb {
   public:
    using tlb::Tlb::lookup;
    virtual std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, tlb::Context context, tlb::Hit* hit,
                               bool* found) noexcept = 0;
    virtual const tlb::FlushLog& log() const noexcept = 0;
  };

  /// `prefetcher`, unless null, takes the place of the one that `config` describes: with `enable_prefetch` an adaptive
  /// choice among all kinds, `prefetch_distance` pages ahead, behind a perceptron with `enable_prediction`. Throws
  /// InvalidConfig.
  explicit UnifiedTlb(const tlb::TlbConfig& config = {}, std::unique_ptr<prefetch::Prefetcher> prefetcher = nullptr);
  ~UnifiedTlb();

  /// Whether `config` describes this TLB with another prefetcher, or none.
  bool same_entries(const tlb::TlbConfig& config) const;
  /// The entries, statistics and waiting flushes of this one, which both then use, behind the prefetcher of `config`,
  /// or `prefetcher` unless null, which begins anew. Throws InvalidConfig, also unless `same_entries(config)`.
  std::shared_ptr<UnifiedTlb> with_prefetcher(const tlb::TlbConfig& config,
                                              std::unique_ptr<prefetch::Prefetcher> prefetcher) const;

  const tlb::TlbConfig& config() const noexcept { return config_; }

  bool lookup(std::uint64_t vaddr, tlb::Context context, tlb::Hit& hit) noexcept {
    return tlb_->lookup(vaddr, context, hit);
  }
  /// `count` look-ups in order: whether they hit in `found`, and then `hit`. Returns how many hit.
  std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, tlb::Context context, tlb::Hit* hit,
                     bool* found) noexcept {
    return tlb_->lookup(vaddr, count, context, hit, found);
  }
  bool contains(std::uint64_t vaddr, tlb::Context context) const noexcept { return tlb_->contains(vaddr, context); }
  tlb::FillTicket begin_fill() const noexcept { return tlb_->begin_fill(); }
  bool insert(const tlb::Entry& entry, tlb::FillTicket ticket) {
    if (config_.flush_policy == tlb::FlushPolicy::delayed) queue_->poll();
    return tlb_->insert(entry, ticket);
  }

  /// Takes effect when the policy says so; at the latest at `barrier`.
  void flush(const tlb::FlushRequest& request) { queue_->request(request); }
  /// When it returns, every flush asked for before is complete.
  void barrier() { queue_->barrier(); }
  /// Flushes that wait.
  std::size_t pending_flushes() const { return queue_->pending(); }
  /// The flushes that have reached the TLB, for levels beside it.
  const tlb::FlushLog& flush_log() const noexcept { return tlb_->log(); }
  tlb::FlushQueueStats flush_stats() const { return queue_->stats(); }

  /// Whether the policy learns from `observe_refill` what an entry costs that was lost.
  bool measures_refills() const noexcept { return config_.flush_policy == tlb::FlushPolicy::adaptive; }
  void observe_refill(std::uint64_t ns) { queue_->observe_refill(ns); }

  tlb::TlbStats stats() const { return tlb_->stats(); }
  std::size_t size() const noexcept { return tlb_->size(); }
  std::size_t capacity() const noexcept { return tlb_->capacity(); }

  bool prefetching() const noexcept { return prefetcher_ != nullptr; }
  PrefetchReport prefetch_report() const;
  /// Name and parameters of the prefetcher; empty without one.
  std::string describe_prefetcher() const;

  /// To be called after a look-up of `vaddr` that missed, or whose hit was the first use of a prefetched entry. The
  /// prefetcher learns from it; then `walk(candidate)` is called for up to `walks_per_event` addresses, and answers
  /// whether it has filled the translation. When another thread is at it, nothing happens: a prefetch is never worth
  /// waiting for.
  template <class Walk>
  void advise(std::uint64_t vaddr, bool first_use, tlb::Context context, Walk&& walk) {
    const std::unique_lock<std::mutex> mine(advising_, std::try_to_lock);
    if (!mine.owns_lock() || prefetcher_ == nullptr) return;
    std::array<std::uint64_t, walks_per_event> pages{};
    const unsigned count = choose(vaddr >> page_shift, first_use, context, pages);
    // Without the other lock: a walk may wait for anybody, and others ask for the statistics meanwhile.
    std::array<bool, walks_per_event> filled{};
    for (unsigned i = 0; i < count; ++i) filled[i] = walk(pages[i] << page_shift);
    if (count != 0) settle(pages, filled, count);
  }
  static constexpr unsigned walks_per_event = 4;
  /// To be called instead after a look-up whose walk found no page: the prefetcher learns what it could not have had.
  void faulted(std::uint64_t vaddr) noexcept;

 private:
  static constexpr unsigned page_shift = 12;
  static constexpr std::size_t queue_size = 64;  ///< the prefetch queue of Vavouliotis et al., ISCA 2021

  void learn(std::uint64_t page, bool first_use) noexcept;
  std::uint64_t next_waiting() noexcept;
  /// Learns, and takes the pages that are to be walked now from the queue. Returns how many.
  unsigned choose(std::uint64_t page, bool first_use, tlb::Context context,
                  std::array<std::uint64_t, walks_per_event>& pages) noexcept;
  void settle(const std::array<std::uint64_t, walks_per_event>& pages, const std::array<bool, walks_per_event>& filled,
              unsigned count) noexcept;

  UnifiedTlb(const UnifiedTlb& entries, const tlb::TlbConfig& config, std::unique_ptr<prefetch::Prefetcher> prefetcher);

  tlb::TlbConfig config_;
  std::shared_ptr<Inside> tlb_;
  std::shared_ptr<tlb::FlushQueue> queue_;  ///< of `tlb_`

  std::mutex advising_;             ///< held by the one thread in `advise`, also while it walks
  mutable std::mutex prefetching_;  ///< guards what follows; taken after `advising_`, never while something is walked
  std::unique_ptr<prefetch::Prefetcher> prefetcher_;
  std::array<std::uint64_t, queue_size> ring_{};  ///< candidates that wait for their walk, oldest first
  std::size_t first_ = 0;
  std::size_t waiting_ = 0;
  struct Nothing {};
  prefetch::RecentPages<Nothing> unused_;  ///< filled and not hit yet; one that has to make room here is held useless
};

}  // namespace vm::mem
