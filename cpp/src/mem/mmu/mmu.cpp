#include "vm/mem/mmu/mmu.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>
#include <string>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::mem {

using paging::Translation;
using paging::WalkRecord;
using tlb::FlushRequest;

namespace {

std::array<unsigned, tlb::walk_cache_levels> cached_spans(const paging::AddressSpace& space) {
  std::array<unsigned, tlb::walk_cache_levels> spans{};
  const auto all = space.table_spans();
  std::copy_n(all.begin(), spans.size(), spans.begin());
  return spans;
}

Translation translation_of(std::uint64_t vaddr, const tlb::Hit& hit) noexcept {
  return {vaddr, hit.paddr, hit.rights, hit.size_log2, hit.level, FaultReason::none};
}

// Less than any number of uses could make up for.
constexpr int alone_mark = std::numeric_limits<int>::min() / 2;

}  // namespace

Mmu::Use::Use(Mmu& mmu) : mmu_(mmu) {
  if (mmu.uses_.fetch_add(1, std::memory_order_acquire) >= 0) return;  // pairs with ~Alone
  mmu.uses_.fetch_sub(1, std::memory_order_relaxed);
  throw VmError("this Mmu is being reconfigured by another thread; let the one wait for the other");
}

Mmu::Use::~Use() { mmu_.uses_.fetch_sub(1, std::memory_order_release); }  // pairs with Alone

/// What `switch_to` and `reconfigure` are, or VmError.
class Mmu::Alone {
 public:
  Alone(Mmu& mmu, const char* what) : mmu_(mmu) {
    int nobody = 0;
    if (mmu.uses_.compare_exchange_strong(nobody, alone_mark, std::memory_order_acquire, std::memory_order_relaxed))
      return;  // pairs with ~Use
    throw VmError(std::string(what) +
                  ": a call of this Mmu is under way, in another thread or below this one; wait for its end");
  }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;
  ~Alone() { mmu_.uses_.fetch_sub(alone_mark, std::memory_order_release); }  // pairs with Use

 private:
  Mmu& mmu_;
};

Mmu::Mmu(std::shared_ptr<GuestMemory> memory, const paging::PagingConfig& paging, const MmuConfig& config,
         std::unique_ptr<prefetch::Prefetcher> prefetcher)
    : memory_(std::move(memory)),
      regions_(memory_),
      config_(config),
      space_(std::make_shared<paging::AddressSpace>(memory_, paging, config.paging)),
      context_(config.context),
      tags_(paging::has_tags(paging)),
      tlb_(std::make_shared<UnifiedTlb>(config.tlb, std::move(prefetcher))),
      walk_cache_(std::make_unique<tlb::WalkCache>(config.walk_cache, cached_spans(*space_))),
      mmio_(memory_),
      counters_({"walks", "faults", "prefetch_walks", "bypassed", "mmio_reads", "mmio_writes", "array_hits",
                 "array_misses", "array_fills", "array_evictions", "array_flushed"}) {}

Mmu::~Mmu() = default;

Translation Mmu::translate(GuestVirtual vaddr, Access access, Privilege privilege) {
  const Translation t = try_translate(vaddr, access, privilege);
  if (!t.ok()) throw PageFault(space_->fault_info(t, access, privilege));
  return t;
}

Translation Mmu::try_translate(GuestVirtual vaddr, Access access, Privilege privilege) {
  regions_.get();  // ClosedError, also where a hit would answer
  const std::uint64_t address = tags_ ? paging::untagged(space_->config(), vaddr.value) : vaddr.value;
  tlb::Hit hit;
  if (tlb_->lookup(address, context_, hit) && hit.allows(access, privilege)) {
    if (hit.prefetched) prefetch(address, true);
    return translation_of(vaddr.value, hit);
  }
  Translation t = miss(address, access, privilege);
  if (t.reason == FaultReason::not_present)
    tlb_->faulted(address);
  else
    prefetch(address, false);
  t.vaddr = vaddr.value;
  return t;
}

Translation Mmu::walk_and_fill(std::uint64_t vaddr, Access access, Privilege privilege) {
  // A walk that a change of the tables overtakes may have read a frame that meanwhile holds another table.
  constexpr int attempts = 8;
  const RegionTable& regions = regions_.get();
  for (int attempt = 0; attempt < attempts; ++attempt) {
    const std::uint64_t before = walk_cache_->begin_fill();
    const tlb::FillTicket ticket = tlb_->begin_fill();
    WalkRecord record;
    const Translation t = walk(regions, vaddr, access, privilege, record);
    if (walk_cache_->begin_fill() == before) return finish(t, record, ticket);
  }
  const std::lock_guard<std::mutex> lock(change_);
  const tlb::FillTicket ticket = tlb_->begin_fill();
  WalkRecord record;
  return finish(walk(regions, vaddr, access, privilege, record), record, ticket);
}

Translation Mmu::miss(std::uint64_t vaddr, Access access, Privilege privilege) {
  if (!tlb_->measures_refills()) return walk_and_fill(vaddr, access, privilege);
  const auto start = std::chrono::steady_clock::now();
  const Translation t = walk_and_fill(vaddr, access, privilege);
  const auto took = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start);
  if (t.ok()) tlb_->observe_refill(static_cast<std::uint64_t>(took.count()));
  return t;
}

Translation Mmu::finish(const Translation& t, const WalkRecord& record, tlb::FillTicket ticket) {
  counters_.add(walks);
  if (t.ok())
    fill(t, record, false, ticket);
  else
    counters_.add(faults);
  return t;
}

Translation Mmu::walk(const RegionTable& regions, std::uint64_t vaddr, Access access, Privilege privilege,
                      WalkRecord& record) {
  const std::uint64_t ticket = walk_cache_->begin_fill();
  Translation t;
  const auto cached = walk_cache_->lookup(vaddr, context_);
  if (cached) {
    const paging::WalkTable from{cached->table, cached->allowances};
    t = space_->walk(regions, GuestVirtual(vaddr), access, privilege, &from, cached->level, record);
  }
  // A fault is never taken from a cached table: the tables themselves have the last word.
  if (!cached || !t.ok()) t = space_->walk(regions, GuestVirtual(vaddr), access, privilege, nullptr, 0, record);
  if (!t.ok()) return t;
  // A table whose entry has no accessed flag yet must not be found without it: SDM vol. 3 section 4.10.3.1.
  if (config_.paging.update_accessed_dirty && access == Access::none) return t;
  for (int level = record.top - 1; level >= t.level; --level)
    walk_cache_->insert(vaddr, context_, {record.tables[level].table, record.tables[level].allowances, level}, ticket);
  return t;
}

void Mmu::fill(const Translation& t, const WalkRecord& record, bool prefetched, tlb::FillTicket ticket) {
  if (record.usable == 0) return;  // every use would have to walk again
  const std::uint64_t offset = t.page_size() - 1;
  tlb_->insert({t.vaddr & ~offset, t.paddr & ~offset, t.rights, record.usable, t.size_log2, t.level, record.global,
                prefetched, context_},
               ticket);
}

void Mmu::prefetch(std::uint64_t vaddr, bool first_use) {
  if (!tlb_->prefetching()) return;
  tlb_->advise(vaddr, first_use, context_, [this](std::uint64_t candidate) { return prefetch_page(candidate); });
}

bool Mmu::prefetch_page(std::uint64_t vaddr) {
  const std::uint64_t before = walk_cache_->begin_fill();
  const tlb::FillTicket ticket = tlb_->begin_fill();
  WalkRecord record;
  // No access: nothing is checked and no A flag is set. What the entry may be used for is decided at its use.
  const Translation t = walk(regions_.get(), vaddr, Access::none, Privilege::supervisor, record);
  counters_.add(prefetch_walks);
  if (!t.ok() || record.usable == 0 || walk_cache_->begin_fill() != before) return false;
  fill(t, record, true, ticket);
  return true;
}

std::size_t Mmu::preheat(const std::uint64_t* vaddr, std::size_t count) {
  std::size_t filled = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t address = paging::untagged(space_->config(), vaddr[i]);
    if (!tlb_->contains(address, context_) && prefetch_page(address)) ++filled;
  }
  return filled;
}

/// `change()`, and when it throws, what other threads may have cached meanwhile of what it had to take back is
/// forgotten.
template <class Change>
auto Mmu::change_tables(std::uint64_t vaddr, std::uint64_t size, Change&& change) {
  try {
    return change();
  } catch (...) {
    forget(vaddr, size);
    throw;
  }
}

void Mmu::map(const paging::MapRequest& request) {
  const std::lock_guard<std::mutex> lock(change_);
  change_tables(request.vaddr, request.size, [&] { space_->map(request); });
  // Nothing of the range was in a TLB, but tables above it may have changed.
  walk_cache_->flush(FlushRequest::all());
}

std::uint64_t Mmu::unmap(std::uint64_t vaddr, std::uint64_t size) {
  const std::lock_guard<std::mutex> lock(change_);
  const std::uint64_t unmapped = change_tables(vaddr, size, [&] { return space_->unmap(vaddr, size); });
  forget(vaddr, size);
  return unmapped;
}

void Mmu::protect(std::uint64_t vaddr, std::uint64_t size, Access access, std::optional<bool> user) {
  const std::lock_guard<std::mutex> lock(change_);
  change_tables(vaddr, size, [&] { space_->protect(vaddr, size, access, user); });
  forget(vaddr, size);
}

void Mmu::forget(std::uint64_t vaddr, std::uint64_t size) {
  // Tables may be shared between address spaces, or appear in one of them twice, and one that was freed may become
  // another: nobody may go on using it.
  walk_cache_->flush(FlushRequest::all());
  tlb_->flush(FlushRequest::range(paging::untagged(space_->config(), vaddr), size, context_));
}

void Mmu::map_page(GuestVirtual vaddr, GuestPhysical paddr, Access access, bool user) {
  const std::uint64_t page = space_->smallest_page();
  map({vaddr.value, paddr.value, page, access, user, page});
}

void Mmu::unmap_page(GuestVirtual vaddr) {
  const Translation t = space_->translate(vaddr, Access::none);
  unmap(vaddr.value & ~(t.page_size() - 1), t.page_size());
}

void Mmu::flush(const FlushRequest& request) {
  FlushRequest known = request;
  known.vaddr = paging::untagged(space_->config(), request.vaddr);
  walk_cache_->flush(known);
  tlb_->flush(known);
}

void Mmu::flush_barrier() { tlb_->barrier(); }

void Mmu::switch_to(const paging::PagingConfig& paging, tlb::Context context, bool keep) {
  const Alone alone(*this, "switch_to");
  auto space = std::make_shared<paging::AddressSpace>(memory_, paging, config_.paging);
  const bool same_modes = paging::same_but_root(paging, space_->config());
  space_ = std::move(space);
  context_ = context;
  tags_ = paging::has_tags(paging);
  if (!same_modes) {
    walk_cache_->reshape(cached_spans(*space_));
    fronts_.clear();
    tlb_->flush(FlushRequest::all());
  } else if (!keep) {
    flush(FlushRequest::asid(context));
  }
  tlb_->barrier();  // what waits must not let the translations of one address space answer for another
}

void Mmu::reconfigure(const tlb::TlbConfig& tlb, const tlb::WalkCacheConfig& walk_cache,
                      std::unique_ptr<prefetch::Prefetcher> prefetcher) {
  const Alone alone(*this, "reconfigure");
  auto new_tlb = tlb_->same_entries(tlb) ? tlb_->with_prefetcher(tlb, std::move(prefetcher))
                                         : std::make_shared<UnifiedTlb>(tlb, std::move(prefetcher));
  const bool other_walk_cache = walk_cache.entries != config_.walk_cache.entries;
  auto new_walk_cache =
      other_walk_cache ? std::make_unique<tlb::WalkCache>(walk_cache, cached_spans(*space_)) : nullptr;
  tlb_->barrier();  // what the old one still owed must not be asked of the new one
  config_.tlb = tlb;
  config_.walk_cache = walk_cache;
  fronts_.clear();  // they read the old one's log
  tlb_ = std::move(new_tlb);
  if (other_walk_cache) walk_cache_ = std::move(new_walk_cache);
}

MmuStats Mmu::stats() const {
  const CounterSnapshot counts = counters_.snapshot();
  const auto& values = counts.values();
  return {
      tlb_->stats(),
      walk_cache_->stats(),
      tlb_->prefetch_report(),
      values[walks],
      values[faults],
      values[prefetch_walks],
      {values[array_hits], values[array_misses], values[array_fills], values[array_evictions], values[array_flushed]},
      values[bypassed],
      values[mmio_reads],
      values[mmio_writes]};
}

}  // namespace vm::mem
