#pragma once
/// \file
/// When flushes reach a TLB, and in which form: the flush policies.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "vm/mem/tlb/config.hpp"
#include "vm/mem/tlb/tlb.hpp"

namespace vm::mem::tlb {

/// What flushes cost, in ns: a model until `adaptive` has measured.
struct FlushCosts {
  double per_page = 30;    ///< to look for one page
  double per_entry = 1;    ///< to go over one entry's place while everything of a context is flushed
  double per_refill = 50;  ///< to walk the tables again for an entry that was lost
};

/// The numbers of the last choice between pages and a whole context.
struct FlushEstimate {
  double pages_ns = 0;
  double context_ns = 0;
  bool chose_context = false;
};

struct FlushQueueStats {
  std::uint64_t requests = 0;
  std::uint64_t carried_out = 0;  ///< flushes that reached the TLB
  std::uint64_t merged = 0;       ///< requests that a waiting one took in
  std::uint64_t contexts = 0;     ///< ranges for which the whole context was flushed
  std::uint64_t barriers = 0;
  FlushEstimate last_estimate;  ///< of `intelligent` and `adaptive`
  FlushCosts costs;             ///< as they are now
};

/// The flush policies in front of any TLB.
///
/// immediate    `request` returns after the flush.
/// delayed      requests wait for `barrier`, or for the first `request` or `poll` after `flush_delay_ns`.
/// batched      requests wait for `barrier`, or until `flush_batch` of them have come.
/// intelligent  immediate; for a range, either its pages or everything of its context, global entries of its VM
///              included, is flushed, whichever `FlushCosts` says is cheaper: pages x per_page against
///              capacity x per_entry + live entries x per_refill.
/// adaptive     intelligent, with per_page and per_entry measured on every flush (an exponential mean) and
///              per_refill as `observe_refill` says; it changes its mind only when the other way is a quarter cheaper.
///
/// Waiting requests of one context that touch or overlap become one range; no policy flushes less than was asked.
/// Until a waiting request is carried out, look-ups may still answer from what it covers.
///
/// All members may be called concurrently as far as the TLB's own `flush` and `size` may; what waits is carried out by
/// one thread at a time, and when `barrier` returns, every request that returned before it was called is carried out.
class FlushQueue {
 public:
  using Clock = std::function<std::uint64_t()>;

  /// `tlb` must outlive the queue. Takes `flush_policy`, `flush_batch` and `flush_delay_ns` of `config`; `now` gives
  /// monotonic ns, by default std::chrono::steady_clock. Throws InvalidConfig as `validate` does.
  FlushQueue(Tlb& tlb, const TlbConfig& config, Clock now = {}, const FlushCosts& costs = {});
  FlushQueue(const FlushQueue&) = delete;
  FlushQueue& operator=(const FlushQueue&) = delete;
  /// Carries out what waits.
  ~FlushQueue();

  void request(const FlushRequest& request);
  /// Carries out everything that waits.
  void barrier();
  /// Carries out what waits when its delay is over. To be called before a fill.
  void poll();
  /// Requests that wait, after merging.
  std::size_t pending() const;
  /// Says what it took to walk the tables for one entry.
  void observe_refill(std::uint64_t ns);
  FlushQueueStats stats() const;
  FlushPolicy policy() const noexcept { return policy_; }

 private:
  void add(const FlushRequest& request);
  bool due() const;
  void drain();
  void carry_out(const FlushRequest& request);
  bool prefer_context(const FlushRequest& request);
  void measure(const FlushRequest& request, std::uint64_t ns, bool context);

  Tlb& tlb_;
  FlushPolicy policy_;
  std::size_t batch_;
  std::uint64_t delay_ns_;
  Clock now_;
  mutable std::mutex mutex_;  // of everything below, and held while requests that waited are carried out
  std::vector<FlushRequest> waiting_;
  std::size_t asked_ = 0;  // requests since the queue was last empty
  std::uint64_t oldest_ns_ = 0;
  FlushQueueStats stats_;
};

}  // namespace vm::mem::tlb
