#include "vm/mem/mmu/unified_tlb.hpp"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "vm/core/error.hpp"
#include "vm/mem/prefetch/adaptive.hpp"
#include "vm/mem/prefetch/perceptron.hpp"
#include "vm/mem/tlb/hybrid_tlb.hpp"
#include "vm/mem/tlb/multi_level_tlb.hpp"
#include "vm/mem/tlb/sharded_tlb.hpp"

namespace vm::mem {
namespace {

/// `MultiLevelTlb` for many threads.
class LockedTlb final : public UnifiedTlb::Inside {
 public:
  explicit LockedTlb(const tlb::TlbConfig& config) : tlb_(config) {}

  bool lookup(std::uint64_t vaddr, tlb::Context context, tlb::Hit& hit) noexcept override {
    const Lock lock(mutex_);
    return tlb_.find(vaddr, context, hit);
  }
  std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, tlb::Context context, tlb::Hit* hit,
                     bool* found) noexcept override {
    const Lock lock(mutex_);
    std::size_t hits = 0;
    for (std::size_t i = 0; i < count; ++i) {
      found[i] = tlb_.find(vaddr[i], context, hit[i]);
      hits += found[i] ? 1 : 0;
    }
    return hits;
  }
  bool contains(std::uint64_t vaddr, tlb::Context context) const noexcept override {
    const Lock lock(mutex_);
    return tlb_.contains(vaddr, context);
  }
  tlb::FillTicket begin_fill() const noexcept override {
    const Lock lock(mutex_);
    return tlb_.begin_fill();
  }
  bool insert(const tlb::Entry& entry, tlb::FillTicket ticket) noexcept override {
    const Lock lock(mutex_);
    return tlb_.insert(entry, ticket);
  }
  void flush(const tlb::FlushRequest& request) noexcept override {
    log_.begin(request);
    {
      const Lock lock(mutex_);
      tlb_.flush(request);
    }
    log_.complete();
  }
  const tlb::FlushLog& log() const noexcept override { return log_; }
  tlb::TlbStats stats() const override {
    const Lock lock(mutex_);
    return tlb_.stats();
  }
  std::size_t size() const noexcept override {
    const Lock lock(mutex_);
    return tlb_.size();
  }
  std::size_t capacity() const noexcept override { return tlb_.capacity(); }

 private:
  using Lock = std::lock_guard<std::mutex>;

  mutable std::mutex mutex_;
  tlb::MultiLevelTlb tlb_;
  tlb::FlushLog log_;
};

/// A TLB that is made for many threads.
template <class Concurrent>
class SharedTlb final : public UnifiedTlb::Inside {
 public:
  explicit SharedTlb(const tlb::TlbConfig& config) : tlb_(config) {}

  bool lookup(std::uint64_t vaddr, tlb::Context context, tlb::Hit& hit) noexcept override {
    return tlb_.lookup(vaddr, context, hit);
  }
  std::size_t lookup(const std::uint64_t* vaddr, std::size_t count, tlb::Context context, tlb::Hit* hit,
                     bool* found) noexcept override {
    return tlb_.lookup(vaddr, count, context, hit, found);
  }
  bool contains(std::uint64_t vaddr, tlb::Context context) const noexcept override {
    return tlb_.contains(vaddr, context);
  }
  tlb::FillTicket begin_fill() const noexcept override { return tlb_.begin_fill(); }
  bool insert(const tlb::Entry& entry, tlb::FillTicket ticket) noexcept override { return tlb_.insert(entry, ticket); }
  void flush(const tlb::FlushRequest& request) noexcept override { tlb_.flush(request); }
  const tlb::FlushLog& log() const noexcept override { return tlb_.log(); }
  tlb::TlbStats stats() const override { return tlb_.stats(); }
  std::size_t size() const noexcept override { return tlb_.size(); }
  std::size_t capacity() const noexcept override { return tlb_.capacity(); }

 private:
  Concurrent tlb_;
};

std::unique_ptr<UnifiedTlb::Inside> make_tlb(const tlb::TlbConfig& config) {
  tlb::validate(config);
  switch (config.strategy) {
    case tlb::Strategy::concurrent: return std::make_unique<SharedTlb<tlb::ShardedTlb>>(config);
    case tlb::Strategy::hybrid: return std::make_unique<SharedTlb<tlb::HybridTlb>>(config);
    case tlb::Strategy::multi_level: break;
  }
  return std::make_unique<LockedTlb>(config);
}

std::unique_ptr<prefetch::Prefetcher> make_prefetcher(const tlb::TlbConfig& config) {
  if (!config.enable_prefetch) return nullptr;
  std::unique_ptr<prefetch::Prefetcher> chooser =
      std::make_unique<prefetch::Adaptive>(prefetch::default_members(config.prefetch_distance));
  if (!config.enable_prediction) return chooser;
  return std::make_unique<prefetch::Perceptron>(std::move(chooser));
}

/// Everything but the prefetcher and `levels`.
auto plain_parts(const tlb::TlbConfig& c) {
  return std::tie(c.strategy, c.l1_size, c.l2_size, c.l3_size, c.l1_ways, c.l2_ways, c.l3_ways, c.replacement,
                  c.inclusion, c.flush_policy, c.flush_batch, c.flush_delay_ns, c.seed);
}

bool same_array(const tlb::ArrayConfig& a, const tlb::ArrayConfig& b) {
  return std::tie(a.sets, a.ways, a.replacement, a.page_sizes) == std::tie(b.sets, b.ways, b.replacement, b.page_sizes);
}

bool same_level(const tlb::LevelConfig& a, const tlb::LevelConfig& b) {
  return std::equal(a.arrays.begin(), a.arrays.end(), b.arrays.begin(), b.arrays.end(), same_array);
}

}  // namespace

UnifiedTlb::UnifiedTlb(const tlb::TlbConfig& config, std::unique_ptr<prefetch::Prefetcher> prefetcher)
    : config_(config),
      tlb_(make_tlb(config)),
      queue_(std::make_unique<tlb::FlushQueue>(*tlb_, config)),
      prefetcher_(prefetcher != nullptr ? std::move(prefetcher) : make_prefetcher(config)),
      unused_(tlb_->capacity()) {}

UnifiedTlb::UnifiedTlb(const UnifiedTlb& entries, const tlb::TlbConfig& config,
                       std::unique_ptr<prefetch::Prefetcher> prefetcher)
    : config_(config),
      tlb_(entries.tlb_),
      queue_(entries.queue_),
      prefetcher_(prefetcher != nullptr ? std::move(prefetcher) : make_prefetcher(config)),
      unused_(tlb_->capacity()) {}

UnifiedTlb::~UnifiedTlb() = default;

bool UnifiedTlb::same_entries(const tlb::TlbConfig& config) const {
  return plain_parts(config) == plain_parts(config_) &&
         std::equal(config.levels.begin(), config.levels.end(), config_.levels.begin(), config_.levels.end(),
                    same_level);
}

std::shared_ptr<UnifiedTlb> UnifiedTlb::with_prefetcher(const tlb::TlbConfig& config,
                                                        std::unique_ptr<prefetch::Prefetcher> prefetcher) const {
  tlb::validate(config);
  if (!same_entries(config))
    throw InvalidConfig(
        "with_prefetcher: the configuration differs in more than the prefetcher; make another UnifiedTlb");
  return std::shared_ptr<UnifiedTlb>(new UnifiedTlb(*this, config, std::move(prefetcher)));
}

void UnifiedTlb::learn(std::uint64_t page, bool first_use) noexcept {
  if (first_use && unused_.erase(page)) prefetcher_->outcome(page, prefetch::Outcome::useful);
  for (std::size_t i = 0; i < waiting_ && !first_use; ++i) {
    std::uint64_t& candidate = ring_[(first_ + i) % queue_size];
    if (candidate != page) continue;
    prefetcher_->outcome(page, prefetch::Outcome::late);
    // What is before it moves up by one.
    for (std::size_t k = i; k > 0; --k) ring_[(first_ + k) % queue_size] = ring_[(first_ + k - 1) % queue_size];
    first_ = (first_ + 1) % queue_size;
    --waiting_;
    break;
  }
  prefetch::Candidates candidates;
  candidates.begin(page);
  prefetcher_->observe({page, 0, first_use}, candidates);
  for (const std::uint64_t candidate : candidates) {
    bool known = unused_.find(candidate) != nullptr;
    for (std::size_t i = 0; i < waiting_ && !known; ++i) known = ring_[(first_ + i) % queue_size] == candidate;
    if (known || waiting_ == queue_size) continue;
    ring_[(first_ + waiting_++) % queue_size] = candidate;
  }
}

std::uint64_t UnifiedTlb::next_waiting() noexcept {
  const std::uint64_t page = ring_[first_];
  first_ = (first_ + 1) % queue_size;
  --waiting_;
  return page;
}

unsigned UnifiedTlb::choose(std::uint64_t page, bool first_use, tlb::Context context,
                            std::array<std::uint64_t, walks_per_event>& pages) noexcept {
  const std::lock_guard<std::mutex> lock(prefetching_);
  learn(page, first_use);
  unsigned count = 0;
  while (count < walks_per_event && waiting_ != 0) {
    pages[count] = next_waiting();
    if (!tlb_->contains(pages[count] << page_shift, context)) ++count;
  }
  return count;
}

void UnifiedTlb::settle(const std::array<std::uint64_t, walks_per_event>& pages,
                        const std::array<bool, walks_per_event>& filled, unsigned count) noexcept {
  const std::lock_guard<std::mutex> lock(prefetching_);
  for (unsigned i = 0; i < count; ++i) {
    if (!filled[i]) {
      prefetcher_->outcome(pages[i], prefetch::Outcome::refused);
      continue;
    }
    unused_.insert(pages[i], {},
                   [&](std::uint64_t gone, const Nothing&) { prefetcher_->outcome(gone, prefetch::Outcome::useless); });
  }
}

void UnifiedTlb::faulted(std::uint64_t vaddr) noexcept {
  if (prefetcher_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(prefetching_);
  prefetcher_->faulted(vaddr >> page_shift);
}

PrefetchReport UnifiedTlb::prefetch_report() const {
  const std::lock_guard<std::mutex> lock(prefetching_);
  return {tlb_->stats().prefetch, prefetcher_ == nullptr ? prefetch::Stats{} : prefetcher_->stats()};
}

std::string UnifiedTlb::describe_prefetcher() const {
  const std::lock_guard<std::mutex> lock(prefetching_);
  return prefetcher_ == nullptr ? std::string() : prefetcher_->describe();
}

}  // namespace vm::mem
