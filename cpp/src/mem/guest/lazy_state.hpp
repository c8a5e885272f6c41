#pragma once
/// \file
/// The pages of lazy memory and what becomes of them. The invariant that lets no toucher sleep forever: a page that is
/// missing is never in the state `resident`, and whoever takes a page out of the state `filling` wakes those who wait
/// for it, except when the page failed and policy says that they wait.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "mem/guest/lazy_userfault.hpp"
#include "mem/guest/lazy_writes.hpp"
#include "vm/mem/guest/lazy_memory.hpp"
#include "vm/mem/pages/page_filler.hpp"

namespace vm::mem {

struct LazyCounters {
  std::atomic<std::uint64_t> faults{0}, pages_filled{0}, prefetched_pages{0}, populated_pages{0}, zero_pages{0},
      coalesced{0}, write_faults{0}, source_calls{0}, source_errors{0}, discarded_pages{0}, bytes{0}, fill_ns{0};
};

/// "Page" is a page of LazyOptions::page_size throughout.
class LazyState : public PageFiller {
 public:
  LazyState(std::uint64_t size, std::shared_ptr<PageSource> source, const LazyOptions& options);

  // PageFiller
  void require(std::uint64_t offset, std::uint64_t size) override;
  std::shared_ptr<void> hold(std::uint64_t offset, std::uint64_t size) override;
  /// Nothing to check and to let go of when every page is there.
  std::shared_ptr<void> before_wait() const override { return resident() == pages_ ? nullptr : source_->before_wait(); }
  bool needs_caller_lock() const noexcept override { return source_->needs_caller_lock(); }

  /// One report of the kernel, by a handler thread with a buffer of its own. Nothing escapes.
  void handle(const FaultMessage& message, std::vector<std::byte>& buffer) noexcept;

  void discard(std::uint64_t offset, std::uint64_t size);
  void retry();
  std::string error() const;
  std::vector<std::uint64_t> failed() const;
  LazyStats stats() const;

  const LazyOptions& options() const noexcept { return options_; }
  const PageSource& source() const noexcept { return *source_; }
  const std::shared_ptr<HostMapping>& mapping() const noexcept { return mapping_; }
  const Userfault& userfault() const noexcept { return userfault_; }
  WriteTracker& writes() noexcept { return writes_; }
  std::uint64_t size() const noexcept { return size_; }
  std::uint64_t pages() const noexcept { return pages_; }
  std::uint64_t resident() const noexcept { return resident_.load(std::memory_order_relaxed); }

 private:
  enum class PageState : std::uint8_t { missing, filling, resident, failed };
  using AtomicState = std::atomic<PageState>;
  struct Range {
    std::uint64_t offset;
    std::uint64_t size;
  };

  AtomicState& state(std::uint64_t page) const noexcept;
  std::uint64_t length(std::uint64_t first, std::uint64_t count) const noexcept;
  bool claim_missing(std::uint64_t page, bool failed_too);
  std::uint64_t claim_run(std::uint64_t first, std::uint64_t limit, bool failed_too);
  void fill_claimed(std::uint64_t first, std::uint64_t count, std::vector<std::byte>& buffer,
                    std::atomic<std::uint64_t>& cause, std::uint64_t uncalled);
  void ask_source(std::uint64_t offset, std::vector<std::byte>& buffer, std::uint64_t size);
  void place(std::uint64_t first, std::uint64_t count, const std::byte* bytes);
  void settle(std::uint64_t first, std::uint64_t count, PageState to);
  void release(std::uint64_t first, std::uint64_t count);
  void handle_missing(std::uint64_t offset, std::vector<std::byte>& buffer);
  bool try_fill(std::uint64_t page, std::uint64_t& count, std::vector<std::byte>& buffer, std::string& message);
  void fail(std::uint64_t page, std::string message);
  void await_settled(std::uint64_t page);
  void require_no_fill_here() const;
  void discard_run(std::uint64_t first, std::uint64_t last);

  const LazyOptions options_;
  const std::shared_ptr<PageSource> source_;
  const std::uint64_t size_;
  const std::uint64_t step_;  // of the kernel's pages
  const std::uint64_t pages_;
  const std::shared_ptr<HostMapping> mapping_;
  const std::shared_ptr<HostMapping> states_;  // one byte per page; memory is spent only where pages are touched
  Userfault userfault_;
  WriteTracker writes_;
  LazyCounters counters_;
  std::atomic<std::uint64_t> resident_{0};

  std::mutex wait_mutex_;
  std::condition_variable settled_;
  std::atomic<std::uint64_t> waiters_{0};

  mutable std::mutex failure_mutex_;
  std::set<std::uint64_t> failed_;  // pages; guarded by failure_mutex_
  std::string error_;               // guarded by failure_mutex_

  std::mutex hold_mutex_;
  std::list<Range> held_;  // guarded by hold_mutex_
};

}  // namespace vm::mem
