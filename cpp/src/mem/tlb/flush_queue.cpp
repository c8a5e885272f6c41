#include "vm/mem/tlb/flush_queue.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

namespace vm::mem::tlb {

namespace {

// How much cheaper the other way must look before `adaptive` changes its mind, and the weight of a new measurement.
constexpr double hysteresis = 0.75;
constexpr double weight = 1.0 / 8;

std::uint64_t steady_ns() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

bool is_range(const FlushRequest& r) { return r.scope == FlushScope::page || r.scope == FlushScope::range; }

// The smallest pages that a range request touches, first and last. Entries are whole pages, so rounding to them covers
// the same entries, and neighbours touch.
struct Pages {
  std::uint64_t first, last;
};
Pages pages_of(const FlushRequest& r) {
  const std::uint64_t end = r.size - 1 > UINT64_MAX - r.vaddr ? UINT64_MAX : r.vaddr + (r.size - 1);
  return {r.vaddr >> smallest_page_log2, end >> smallest_page_log2};
}
FlushRequest range_of(Pages pages, Context context) {
  const std::uint64_t count = pages.last - pages.first + 1;
  const std::uint64_t all = std::uint64_t{1} << (64 - smallest_page_log2);
  return FlushRequest::range(pages.first << smallest_page_log2, count == all ? UINT64_MAX : count << smallest_page_log2,
                             context);
}
FlushRequest whole_context(Context context) { return FlushRequest::range(0, UINT64_MAX, context); }

// Whether carrying out `wide` also carries out `narrow`, two requests that are not both ranges.
bool takes_in(const FlushRequest& wide, const FlushRequest& narrow) {
  if (wide.scope == FlushScope::all) return true;
  if (wide.scope == FlushScope::non_global)
    return wide.context.vmid == narrow.context.vmid &&
           (narrow.scope == FlushScope::non_global || narrow.scope == FlushScope::asid);
  return wide.scope == FlushScope::asid && narrow.scope == FlushScope::asid && wide.context == narrow.context;
}

}  // namespace

FlushQueue::FlushQueue(Tlb& tlb, const TlbConfig& config, Clock now, const FlushCosts& costs)
    : tlb_(tlb),
      policy_(config.flush_policy),
      batch_(config.flush_batch),
      delay_ns_(config.flush_delay_ns),
      now_(now ? std::move(now) : Clock(steady_ns)) {
  validate(config);
  stats_.costs = costs;
}

FlushQueue::~FlushQueue() { drain(); }

void FlushQueue::request(const FlushRequest& request) {
  if (policy_ == FlushPolicy::immediate) {
    tlb_.flush(request);
    const std::lock_guard<std::mutex> lock(mutex_);
    ++stats_.requests;
    ++stats_.carried_out;
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  ++stats_.requests;
  if (policy_ == FlushPolicy::intelligent || policy_ == FlushPolicy::adaptive) {
    carry_out(request);
    return;
  }
  if (asked_++ == 0 && policy_ == FlushPolicy::delayed) oldest_ns_ = now_();
  add(request);
  if (due()) drain();
}

void FlushQueue::barrier() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++stats_.barriers;
  drain();
}

void FlushQueue::poll() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (due()) drain();
}

std::size_t FlushQueue::pending() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return waiting_.size();
}

void FlushQueue::observe_refill(std::uint64_t ns) {
  if (policy_ != FlushPolicy::adaptive) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  stats_.costs.per_refill += weight * (static_cast<double>(ns) - stats_.costs.per_refill);
}

FlushQueueStats FlushQueue::stats() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

bool FlushQueue::due() const {
  if (waiting_.empty()) return false;
  return policy_ == FlushPolicy::batched ? asked_ >= batch_ : now_() - oldest_ns_ >= delay_ns_;
}

// Puts a request among those that wait. One that takes others in replaces them.
void FlushQueue::add(const FlushRequest& request) {
  if (!is_range(request)) {
    for (const FlushRequest& other : waiting_)
      if (takes_in(other, request)) {
        ++stats_.merged;
        return;
      }
    const auto end = std::remove_if(waiting_.begin(), waiting_.end(),
                                    [&](const FlushRequest& other) { return takes_in(request, other); });
    stats_.merged += static_cast<std::uint64_t>(waiting_.end() - end);
    waiting_.erase(end, waiting_.end());
    waiting_.push_back(request);
    return;
  }
  if (request.size == 0) {
    ++stats_.merged;  // covers nothing
    return;
  }
  Pages pages = pages_of(request);
  const auto joins = [&](const FlushRequest& other) {
    if (other.scope == FlushScope::all) return true;
    if (!is_range(other) || other.context != request.context) return false;
    const Pages p = pages_of(other);
    return p.first <= pages.last + 1 && pages.first <= p.last + 1;
  };
  // A grown range can reach further ones: again until none joins.
  for (auto found = std::find_if(waiting_.begin(), waiting_.end(), joins); found != waiting_.end();
       found = std::find_if(waiting_.begin(), waiting_.end(), joins)) {
    ++stats_.merged;
    if (found->scope == FlushScope::all) return;
    const Pages p = pages_of(*found);
    pages = {std::min(p.first, pages.first), std::max(p.last, pages.last)};
    waiting_.erase(found);
  }
  waiting_.push_back(range_of(pages, request.context));
}

void FlushQueue::drain() {
  for (const FlushRequest& request : waiting_) {
    tlb_.flush(request);
    ++stats_.carried_out;
  }
  waiting_.clear();
  asked_ = 0;
}

// Whether to flush everything of the request's context rather than its pages; writes the estimate down.
bool FlushQueue::prefer_context(const FlushRequest& request) {
  const FlushCosts& costs = stats_.costs;
  const Pages pages = pages_of(request);
  const FlushEstimate before = stats_.last_estimate;
  FlushEstimate& estimate = stats_.last_estimate;
  estimate.pages_ns = costs.per_page * (static_cast<double>(pages.last - pages.first) + 1);
  estimate.context_ns =
      costs.per_entry * static_cast<double>(tlb_.capacity()) + costs.per_refill * static_cast<double>(tlb_.size());
  if (policy_ == FlushPolicy::intelligent)
    estimate.chose_context = estimate.context_ns < estimate.pages_ns;
  else if (before.chose_context)
    estimate.chose_context = !(estimate.pages_ns < hysteresis * estimate.context_ns);
  else
    estimate.chose_context = estimate.context_ns < hysteresis * estimate.pages_ns;
  return estimate.chose_context;
}

void FlushQueue::carry_out(const FlushRequest& request) {
  ++stats_.carried_out;
  if (!is_range(request) || request.size == 0) {
    tlb_.flush(request);
    return;
  }
  const bool context = prefer_context(request);
  if (context) ++stats_.contexts;
  const FlushRequest chosen = context ? whole_context(request.context) : request;
  if (policy_ == FlushPolicy::intelligent) {
    tlb_.flush(chosen);
    return;
  }
  const std::uint64_t start = now_();
  tlb_.flush(chosen);
  measure(request, now_() - start, context);
}

void FlushQueue::measure(const FlushRequest& request, std::uint64_t ns, bool context) {
  const Pages pages = pages_of(request);
  const double units =
      context ? static_cast<double>(tlb_.capacity()) : static_cast<double>(pages.last - pages.first) + 1;
  double& cost = context ? stats_.costs.per_entry : stats_.costs.per_page;
  cost += weight * (static_cast<double>(ns) / units - cost);
}

}  // namespace vm::mem::tlb
