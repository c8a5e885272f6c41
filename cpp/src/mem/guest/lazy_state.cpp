#include "mem/guest/lazy_state.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "mem/guest/lazy_options.hpp"
#include "mem/pages/huge_pages.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

/// Enough for one call to the source to cost little per byte, small enough to share the memory with touchers.
constexpr std::uint64_t populate_bytes = std::uint64_t{1} << 20;
/// Between two looks for interrupts; nobody waits for it otherwise.
constexpr std::chrono::milliseconds interrupt_interval{50};

/// Marks that this thread runs the source of `state`. A chain, because a source may read other lazy memory.
class FillScope {
 public:
  explicit FillScope(const LazyState* state) noexcept : state_(state), outer_(innermost) { innermost = this; }
  FillScope(const FillScope&) = delete;
  FillScope& operator=(const FillScope&) = delete;
  ~FillScope() { innermost = outer_; }

  static bool fills(const LazyState* state) noexcept {
    for (const FillScope* scope = innermost; scope != nullptr; scope = scope->outer_) {
      if (scope->state_ == state) return true;
    }
    return false;
  }

 private:
  static thread_local const FillScope* innermost;
  const LazyState* state_;
  const FillScope* outer_;
};

thread_local const FillScope* FillScope::innermost = nullptr;

bool all_zero(const std::byte* bytes, std::uint64_t size) noexcept {
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

void add(std::atomic<std::uint64_t>& counter, std::uint64_t count) noexcept {
  counter.fetch_add(count, std::memory_order_relaxed);  // a statistic: nothing else is read because of it
}

std::uint64_t elapsed_ns(std::chrono::steady_clock::time_point start) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace

LazyState::LazyState(std::uint64_t size, std::shared_ptr<PageSource> source, const LazyOptions& options)
    : options_(checked_lazy_options(size, source.get(), options)),
      source_(std::move(source)),
      size_(size),
      step_(lazy_step(options.huge_pages)),
      pages_(size / options.page_size + (size % options.page_size != 0 ? 1 : 0)),
      mapping_(HostMapping::anonymous(size, options.huge_pages)),
      states_(HostMapping::anonymous(pages_, HugePages::none)),
      userfault_(mapping_->data(), align_up(size, step_), step_, reserved_page_size(options.huge_pages) != 0,
                 {options.tracking, !source_->needs_caller_lock(), options.on_failure == OnFailure::poison}),
      writes_(userfault_, align_up(size, step_), step_) {
  static_assert(sizeof(AtomicState) == 1 && AtomicState::is_always_lock_free);
  mapping_->set_filler(this);
}

LazyState::AtomicState& LazyState::state(std::uint64_t page) const noexcept {
  return *reinterpret_cast<AtomicState*>(states_->data() + page);
}

/// Bytes of `count` pages, of which the last of all may be short; whole pages of the kernel.
std::uint64_t LazyState::length(std::uint64_t first, std::uint64_t count) const noexcept {
  const std::uint64_t offset = first * options_.page_size;
  return std::min(count * options_.page_size, align_up(size_, step_) - offset);
}

bool LazyState::claim_missing(std::uint64_t page, bool failed_too) {
  PageState found = PageState::missing;
  if (state(page).compare_exchange_strong(found, PageState::filling)) return true;
  if (!failed_too || found != PageState::failed) return false;
  const std::lock_guard<std::mutex> lock(failure_mutex_);
  if (!state(page).compare_exchange_strong(found, PageState::filling)) return false;
  failed_.erase(page);
  if (failed_.empty()) error_.clear();
  // What poison marks cannot be filled. Who touches it from here on waits for us.
  if (options_.on_failure == OnFailure::poison) userfault_.remove(page * options_.page_size, length(page, 1));
  return true;
}

/// Takes up to `limit` pages from `first` on for filling, as many as are missing without a gap.
std::uint64_t LazyState::claim_run(std::uint64_t first, std::uint64_t limit, bool failed_too) {
  limit = std::min(limit, pages_ - first);
  std::uint64_t count = 0;
  while (count < limit && claim_missing(first + count, failed_too || count == 0)) ++count;
  return count;
}

void LazyState::ask_source(std::uint64_t offset, std::vector<std::byte>& buffer, std::uint64_t size) {
  const FillScope scope(this);
  add(counters_.source_calls, 1);
  try {
    source_->fill(offset, buffer.data(), static_cast<std::size_t>(size));
  } catch (...) {
    add(counters_.source_errors, 1);
    throw;
  }
  add(counters_.bytes, size);
}

/// Makes claimed pages resident, and counts `uncalled` of them in `cause`. Throws what the
/// source throws; then they are still claimed.
void LazyState::fill_claimed(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& buffer,
                             std::atomic<std::uint64_t>& cause, std::uint64_t uncalled) {
  const auto start = std::chrono::steady_clock::now();
  const std::uint64_t offset = first * options_.page_size;
  const std::uint64_t whole = length(first, count);
  const std::uint64_t wanted = std::min(whole, size_ - offset);
  if (buffer.size() < whole) buffer.resize(static_cast<std::size_t>(whole));
  ask_source(offset, buffer, wanted);
  std::memset(buffer.data() + wanted, 0, static_cast<std::size_t>(whole - wanted));
  // Before the toucher goes on, so that it finds its own page counted.
  const auto count_pages = [&](auto change) {
    change(resident_, count);
    change(counters_.pages_filled, count);
    change(cause, uncalled);
  };
  count_pages(add);
  try {
    place(first, count, buffer.data());
  } catch (...) {
    count_pages([](std::atomic<std::uint64_t>& counter, std::uint64_t by) { counter.fetch_sub(by); });
    throw;
  }
  add(counters_.fill_ns, elapsed_ns(start));
  settle(first, count, PageState::resident);
}

void LazyState::place(std::uint64_t first, std::uint64_t count, const std::byte* bytes) {
  const WriteTracker::Making making(writes_);
  const auto is_zero = [&](std::uint64_t page) {
    return all_zero(bytes + (page - first) * options_.page_size, length(page, 1));
  };
  std::uint64_t page = first;
  while (page < first + count) {
    const bool zero = is_zero(page);
    std::uint64_t end = page + 1;
    while (end < first + count && is_zero(end) == zero) ++end;
    const std::uint64_t offset = page * options_.page_size;
    if (zero) add(counters_.zero_pages, end - page);
    // UFFDIO_ZEROPAGE cannot protect what it makes.
    if (zero && userfault_.can_zero() && !making.protect()) {
      userfault_.zero(offset, length(page, end - page));
    } else {
      userfault_.copy(offset, bytes + (page - first) * options_.page_size, length(page, end - page), making.protect());
    }
    page = end;
  }
}

void LazyState::settle(std::uint64_t first, std::uint64_t count, PageState to) {
  for (std::uint64_t page = first; page < first + count; ++page) state(page).store(to);
  // Sequentially consistent with await_settled: either it sees the new state, or we see that it waits.
  if (waiters_.load() == 0) return;
  const std::lock_guard<std::mutex> lock(wait_mutex_);
  settled_.notify_all();
}

/// Gives claimed pages back; who waits for them touches again, and so asks again.
void LazyState::release(std::uint64_t first, std::uint64_t count) {
  settle(first, count, PageState::missing);
  userfault_.wake(first * options_.page_size, length(first, count));
}

void LazyState::handle(const FaultMessage& message, std::vector<std::byte>& buffer) noexcept {
  try {
    if (message.write_protected) {
      add(counters_.write_faults, 1);
      writes_.note(message.offset);
    } else {
      handle_missing(message.offset, buffer);
    }
  } catch (const std::exception& error) {
    const std::lock_guard<std::mutex> lock(failure_mutex_);
    error_ = error.what();
  }
}

void LazyState::handle_missing(std::uint64_t offset, std::vector<std::byte>& buffer) {
  add(counters_.faults, 1);
  const std::uint64_t page = offset / options_.page_size;
  std::uint64_t count = claim_run(page, 1 + options_.prefetch_pages, false);
  if (count == 0) return add(counters_.coalesced, 1);  // by the invariant somebody wakes, or woke, the toucher
  std::string message;
  std::uint64_t delay_ns = options_.retry_delay_ns;
  for (unsigned attempt = 0;; ++attempt) {
    if (try_fill(page, count, buffer, message)) return;
    if (attempt == options_.retries) return fail(page, std::move(message));
    if (!userfault_.pause(delay_ns)) return release(page, 1);
    delay_ns *= 2;
  }
}

/// False when the touched page cannot be filled; neighbours are given up first, and are no attempt of their own.
bool LazyState::try_fill(std::uint64_t page, std::uint64_t& count, std::vector<std::byte>& buffer,
                         std::string& message) {
  while (true) {
    try {
      fill_claimed(page, count, buffer, counters_.prefetched_pages, count - 1);
      return true;
    } catch (const std::exception& error) {
      message = error.what();
    } catch (...) {
      message = "the page source threw something that is no std::exception";
    }
    if (count == 1) return false;
    release(page + 1, count - 1);
    count = 1;
  }
}

void LazyState::fail(std::uint64_t page, std::string message) {
  const std::uint64_t offset = page * options_.page_size;
  {
    const std::lock_guard<std::mutex> lock(failure_mutex_);
    failed_.insert(page);
    error_ = message;
    settle(page, 1, PageState::failed);
    if (options_.on_failure == OnFailure::poison) userfault_.poison(offset, length(page, 1));
  }
  if (options_.on_error) options_.on_error(offset, message);
}

void LazyState::require_no_fill_here() const {
  if (FillScope::fills(this)) {
    throw InvalidConfig("the page source uses the memory that it is asked to fill; give it the bytes in another way");
  }
}

void LazyState::await_settled(std::uint64_t page) {
  const auto unlocked = source_->before_wait();
  std::unique_lock<std::mutex> lock(wait_mutex_);
  waiters_.fetch_add(1);
  struct Leave {
    std::atomic<std::uint64_t>& waiters;
    ~Leave() { waiters.fetch_sub(1); }
  } const leave{waiters_};
  while (state(page).load() == PageState::filling) {
    if (settled_.wait_for(lock, interrupt_interval) == std::cv_status::no_timeout) continue;
    lock.unlock();
    source_->check_interrupt();
    lock.lock();
  }
}

void LazyState::require(std::uint64_t offset, std::uint64_t size) {
  if (size == 0) return;
  require_no_fill_here();
  const std::uint64_t run = std::max<std::uint64_t>(1, populate_bytes / options_.page_size);
  const std::uint64_t last = (offset + (size - 1)) / options_.page_size;
  std::vector<std::byte> buffer;
  for (std::uint64_t page = offset / options_.page_size; page <= last;) {
    const PageState found = state(page).load();
    if (found == PageState::resident) {
      ++page;
    } else if (found == PageState::filling) {
      await_settled(page);
    } else if (const auto count = claim_run(page, std::min(run, last - page + 1), true)) {
      try {
        fill_claimed(page, count, buffer, counters_.populated_pages, count);
        page += count;
      } catch (...) {
        release(page, count);
        throw;
      }
    }
  }
}

std::shared_ptr<void> LazyState::hold(std::uint64_t offset, std::uint64_t size) {
  if (!source_->needs_caller_lock() || size == 0) return nullptr;
  std::list<Range>::iterator range;
  {
    const std::lock_guard<std::mutex> lock(hold_mutex_);
    range = held_.insert(held_.end(), {offset, size});
  }
  // The caller keeps the mapping, and so this object, for longer than the result.
  std::shared_ptr<void> result(this, [this, range](LazyState*) {
    const std::lock_guard<std::mutex> lock(hold_mutex_);
    held_.erase(range);
  });
  require(offset, size);
  return result;
}

void LazyState::discard(std::uint64_t offset, std::uint64_t size) {
  if (size == 0) return;
  require_no_fill_here();
  const std::uint64_t first = offset / options_.page_size;
  const std::uint64_t last = (offset + (size - 1)) / options_.page_size;
  const std::lock_guard<std::mutex> lock(hold_mutex_);
  for (const Range& range : held_) {
    if (range.offset < offset + size && offset < range.offset + range.size) {
      throw AccessViolation("discard of " + hex(size) + " bytes at offset " + hex(offset) + " takes pages of a view (" +
                            hex(range.size) + " bytes at " + hex(range.offset) +
                            ") whose user could not wait for this page source; delete the view first");
    }
  }
  discard_run(first, last);
}

void LazyState::discard_run(std::uint64_t first, std::uint64_t last) {
  for (std::uint64_t page = first; page <= last;) {
    PageState was = state(page).load();
    if (was == PageState::missing) {
      ++page;
      continue;
    }
    if (was == PageState::failed) {
      if (claim_missing(page, true)) release(page, 1);
      continue;
    }
    if (was == PageState::filling || !state(page).compare_exchange_strong(was, PageState::filling)) {
      await_settled(page);
      continue;
    }
    std::uint64_t end = page + 1;
    for (was = PageState::resident; end <= last && state(end).compare_exchange_strong(was, PageState::filling);) ++end;
    try {
      userfault_.remove(page * options_.page_size, length(page, end - page));
    } catch (...) {
      settle(page, end - page, PageState::resident);
      throw;
    }
    writes_.forget(page * options_.page_size, length(page, end - page));
    resident_.fetch_sub(end - page, std::memory_order_relaxed);
    add(counters_.discarded_pages, end - page);
    release(page, end - page);
    page = end;
  }
}

void LazyState::retry() {
  for (const std::uint64_t offset : failed()) {
    if (options_.on_failure == OnFailure::poison) {
      require(offset, 1);
    } else if (const std::uint64_t page = offset / options_.page_size; claim_missing(page, true)) {
      release(page, 1);
    }
  }
}

std::string LazyState::error() const {
  const std::lock_guard<std::mutex> lock(failure_mutex_);
  return error_;
}

std::vector<std::uint64_t> LazyState::failed() const {
  const std::lock_guard<std::mutex> lock(failure_mutex_);
  std::vector<std::uint64_t> offsets;
  for (const std::uint64_t page : failed_) offsets.push_back(page * options_.page_size);
  return offsets;
}

LazyStats LazyState::stats() const {
  const auto get = [](const std::atomic<std::uint64_t>& counter) { return counter.load(std::memory_order_relaxed); };
  LazyStats stats;
  stats.faults = get(counters_.faults);
  stats.pages_filled = get(counters_.pages_filled);
  stats.prefetched_pages = get(counters_.prefetched_pages);
  stats.populated_pages = get(counters_.populated_pages);
  stats.zero_pages = get(counters_.zero_pages);
  stats.coalesced = get(counters_.coalesced);
  stats.write_faults = get(counters_.write_faults);
  stats.source_calls = get(counters_.source_calls);
  stats.source_errors = get(counters_.source_errors);
  stats.discarded_pages = get(counters_.discarded_pages);
  stats.bytes = get(counters_.bytes);
  stats.fill_ns = get(counters_.fill_ns);
  const std::lock_guard<std::mutex> lock(failure_mutex_);
  stats.failed_pages = failed_.size();
  return stats;
}

}  // namespace vm::mem
