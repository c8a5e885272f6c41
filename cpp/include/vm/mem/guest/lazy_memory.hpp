#pragma once
/// \file
/// `LazyMemory`: guest memory whose pages come from a page source when they are first touched, by whomever: this
/// process, a system call, a guest under KVM. Post-copy migration and lazy restore work like this.
///
/// Linux only, on userfaultfd(2); the ioctls are those of ioctl_userfaultfd(2), the write tracking is that of the
/// kernel's Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst (PAGEMAP_SCAN).

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vm/mem/guest/memory.hpp"
#include "vm/mem/guest/page_source.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem {

/// What becomes of a touch whose page the source could not give.
enum class OnFailure : std::uint8_t {
  wait,    ///< it waits until `retry`, or another touch of the page, succeeds
  poison,  ///< the page is poisoned (UFFDIO_POISON, Linux 6.6): the touch is SIGBUS, for a system call EFAULT
};

/// How `track_writes` learns of writes.
enum class WriteTracking : std::uint8_t {
  automatic,     ///< asynchronous where the kernel can, else synchronous, else none
  none,          ///< not at all
  synchronous,   ///< a handler thread is told of the first write to each page; the writer waits for it
  asynchronous,  ///< the kernel notes the first write to each page (UFFD_FEATURE_WP_ASYNC, Linux 6.7)
};
const char* to_string(WriteTracking tracking) noexcept;

struct LazyOptions {
  std::uint64_t base = 0;                   ///< guest-physical address of the first byte
  std::uint64_t page_size = 4096;           ///< bytes filled at a time: a power of two, 4 KiB to 1 GiB
  std::uint64_t prefetch_pages = 0;         ///< missing neighbours after a touched page filled with it; at most 4096
  unsigned threads = 1;                     ///< that handle touches: 1 to 256
  HugePages huge_pages = HugePages::none;   ///< what holds the bytes; a reserved size needs a `page_size` as large
  unsigned retries = 2;                     ///< further attempts for a touched page whose source threw
  std::uint64_t retry_delay_ns = 10000000;  ///< before the first of them; doubles each time
  OnFailure on_failure = OnFailure::wait;
  WriteTracking tracking = WriteTracking::automatic;
  /// Called from a handler thread when all attempts for a touched page failed. Must not throw.
  std::function<void(std::uint64_t offset, const std::string& message)> on_error;
};

/// Counted since construction. Pages are of `page_size`.
struct LazyStats {
  std::uint64_t faults = 0;            ///< touches of missing pages that the kernel reported
  std::uint64_t pages_filled = 0;      ///< by whatever cause
  std::uint64_t prefetched_pages = 0;  ///< of them those that came along with a touched neighbour
  std::uint64_t populated_pages = 0;   ///< of them those that populate, read, write or a view asked for
  std::uint64_t zero_pages = 0;        ///< of them those that were all zeros
  std::uint64_t coalesced = 0;         ///< faults on a page that was being filled, or had been meanwhile
  std::uint64_t write_faults = 0;      ///< first writes reported while tracking synchronously
  std::uint64_t source_calls = 0;      ///< calls of PageSource::fill
  std::uint64_t source_errors = 0;     ///< of them those that threw
  std::uint64_t failed_pages = 0;      ///< now waiting for `retry`, or poisoned
  std::uint64_t discarded_pages = 0;   ///< by `discard`
  std::uint64_t bytes = 0;             ///< that the source gave
  std::uint64_t fill_ns = 0;           ///< from asking the source to the page being there, summed over threads
};

class LazyPages;

/// Fills a `GuestMemory` on first touch.
///
/// The pages and the threads that fill them live as long as anybody can touch them: this object, `memory()`, any table
/// or view taken from it. `close` therefore ends them at once only when nobody else holds them. A page never turns into
/// zeros because its source is gone.
///
/// When the source throws for a touched page, it is asked again (`retries`); then the page counts as failed, `error`
/// and `on_error` say why, and `on_failure` decides what the touch sees. GuestMemory::read, write and save, and
/// `populate`, ask the source themselves before they touch anything, and throw what it throws.
///
/// A thread of which `fill` waits for something must not touch missing pages (PageSource::before_wait).
/// Only `discard` may take pages away: not madvise, not munmap. A child process does not inherit the memory
/// (MADV_DONTFORK), because nobody would fill it there.
///
/// Any number of threads may call anything at once. All but `close` and `closed` throw ClosedError after `close`.
class LazyMemory {
 public:
  /// Why there can be no lazy memory here and what to do, or nothing when there can.
  static std::optional<std::string> unavailable();

  /// `size` bytes > 0 of any alignment. Throws InvalidConfig, NotSupported (names what the kernel lacks),
  /// ResourceExhausted (reserved huge pages, address space), PlatformError.
  LazyMemory(std::uint64_t size, std::shared_ptr<PageSource> source, const LazyOptions& options = {});
  LazyMemory(const LazyMemory&) = delete;
  LazyMemory& operator=(const LazyMemory&) = delete;
  ~LazyMemory();

  /// For AddressSpace, Mmu and everybody else; its format is "lazy". Stays usable when this object is gone.
  std::shared_ptr<GuestMemory> memory() const;

  std::uint64_t size() const;
  std::uint64_t page_size() const;
  /// In all.
  std::uint64_t pages() const;
  /// That are there now.
  std::uint64_t resident() const;

  /// Fills what is missing of [offset, offset + size), on this thread. The source is asked for up to 1 MiB
  /// at a time. Throws OutOfRange, and what the source throws; then some of the pages may be there.
  void populate(std::uint64_t offset, std::uint64_t size);
  /// The same for all pages, beside whoever touches them: what post-copy does in the background. `progress` is called
  /// with bytes every few milliseconds, and may throw to stop.
  void populate_all(const Progress& progress = {});
  /// Forgets the pages of a range, with what was written to them: the next touch asks the source again. Both ends must
  /// be multiples of `page_size`, or the end of the memory. Throws OutOfRange, InvalidConfig; AccessViolation for pages
  /// of a view that its user could not wait for (PageSource::needs_caller_lock).
  void discard(std::uint64_t offset, std::uint64_t size);

  /// What the last failure of a touched page was; empty when no page is failed.
  std::string error() const;
  /// Offsets of the failed pages, ascending.
  std::vector<std::uint64_t> failed() const;
  /// Lets touches that wait for failed pages ask the source once more. Poisoned pages are filled here, and throw what
  /// the source throws.
  void retry();

  /// From here on `dirty` tells the pages written. Throws NotSupported when the kernel lacks it, or `tracking` is none.
  void track_writes();
  void stop_tracking();
  /// How writes are or would be tracked; never automatic.
  WriteTracking tracking() const;
  /// Indices (offset / 4096) of the 4 KiB pages written since `track_writes` or `reset_dirty`, ascending; a reserved
  /// huge page counts as all its 4 KiB pages. What the source filled was not written. Throws InvalidConfig when nobody
  /// called `track_writes`.
  std::vector<std::uint64_t> dirty() const;
  /// The same, and begins anew: a write is in this answer or in the next. Read the pages after it returned.
  std::vector<std::uint64_t> reset_dirty();

  LazyStats stats() const;
  /// True when the kernel lets us serve touches of this process only, not of system calls, which then fail with EFAULT
  /// on missing pages (UFFD_USER_MODE_ONLY; without privileges that is all there is).
  bool user_mode_only() const;

  /// Gives up this object's share, and closes `memory()`. Twice is fine.
  void close() noexcept;
  bool closed() const noexcept;

 private:
  std::shared_ptr<LazyPages> pages_or_throw() const;

  mutable std::mutex mutex_;
  std::shared_ptr<LazyPages> pages_;  // guarded by mutex_; null once closed
  std::shared_ptr<GuestMemory> memory_;
};

}  // namespace vm::mem
