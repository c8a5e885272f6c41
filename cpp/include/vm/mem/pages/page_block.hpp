#pragma once
/// \file
/// Whole pages of private memory for one owner: aligned, on huge pages where there are any, between guard pages, and
/// handled page by page: prefaulted, locked, advised, given back, protected. The kernel is asked what became of it.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vm/core/access.hpp"
#include "vm/mem/pages/mapping.hpp"
#include "vm/mem/pages/page_census.hpp"
#include "vm/mem/pages/protection.hpp"

namespace vm::mem {

struct PageOptions {
  /// A power of two; what is less than a page counts as a page. Huge pages bring an alignment of their own size.
  std::uint64_t alignment = 1;
  HugePages huge_pages = HugePages::automatic;
  /// When pages of that kind cannot be had, take transparent huge pages, and failing these ordinary ones, instead of
  /// throwing. `PageBlock::refused` then says why.
  bool fallback = false;
  /// Inaccessible bytes on either side, rounded up to whole pages. Not with reserved huge pages.
  std::uint64_t guard = 0;
  WxPolicy wx_policy = WxPolicy::exclusive;
};

/// What the kernel is told about pages, madvise(2). In brackets the Linux that understands it, where newer than 4.14.
enum class Advice : std::uint8_t {
  normal,         ///< forget `random` and `sequential`
  random,         ///< no read-ahead
  sequential,     ///< read ahead
  will_need,      ///< bring back what was swapped out
  huge_pages,     ///< use transparent huge pages
  no_huge_pages,  ///< use none
  collapse,       ///< gather what is resident into huge pages now (6.1)
  cold,           ///< evict these first (5.4)
  page_out,       ///< evict these now (5.4)
  dont_fork,      ///< a child of fork does not have these pages
  do_fork,
  wipe_on_fork,  ///< a child of fork has zeros
  keep_on_fork,
  dont_dump,  ///< not in core dumps
  do_dump,
  mergeable,  ///< equal pages may be shared (KSM)
  unmergeable,
};

/// The enumerator's name.
const char* to_string(Advice advice) noexcept;

/// When `lock` brings pages in.
enum class LockMode : std::uint8_t {
  now,       ///< all of them, before it returns
  on_fault,  ///< each when it is touched (Linux 4.4)
};

/// When `purge` takes effect.
enum class PurgeMode : std::uint8_t {
  now,     ///< the pages are gone, and read as zeros
  lazily,  ///< taken when the system needs memory: until it is written again, a byte has its old value or is 0
};

/// Anonymous memory, zeros at first, unmapped by the destructor. Ranges are [offset, offset + size) in bytes; what
/// works on pages wants both to be multiples of `page_size()`, or to end at the end of the block. Methods may be called
/// from any thread; the bytes are ordinary memory. A child of fork has a copy, without locks; after Advice::dont_fork
/// it has not, and there the block may only be destroyed. Fork while no other thread is in a method: what it has locked
/// stays locked in the child.
class PageBlock {
 public:
  /// Throws InvalidConfig; ResourceExhausted and NotSupported with the reason when memory or the kind of page that was
  /// asked for is not to be had; PlatformError.
  explicit PageBlock(std::uint64_t size, const PageOptions& options = {});
  PageBlock(const PageBlock&) = delete;
  PageBlock& operator=(const PageBlock&) = delete;
  ~PageBlock();

  std::byte* data() const noexcept { return data_; }
  /// Bytes that were asked for.
  std::uint64_t size() const noexcept { return size_; }
  /// Bytes up to the end of the last page; all of them may be used.
  std::uint64_t capacity() const noexcept { return capacity_; }
  /// `data()` is a multiple of it.
  std::uint64_t alignment() const noexcept { return alignment_; }
  /// Inaccessible bytes on either side.
  std::uint64_t guard() const noexcept { return guard_; }
  /// What ranges are multiples of: the size of the reserved huge pages, or of the host's ordinary ones.
  std::uint64_t page_size() const noexcept { return protection_.page_size(); }
  /// What the memory was mapped as, never `automatic`. `transparent` means that the kernel was asked to use huge pages;
  /// `census` tells where it does.
  HugePages huge_pages() const noexcept { return huge_pages_; }
  /// Why it is not the kind that was asked for, one sentence; empty when it is.
  const std::string& refused() const noexcept { return refused_; }

  /// Puts a page under every byte, by `threads` threads at once; 0: as many as this thread may use CPUs, one per 16 MiB
  /// at most. Linux 5.14 does it without touching memory (MADV_POPULATE_WRITE), else pages are touched, and
  /// nobody may take the right to write from them meanwhile. Throws AccessViolation where pages are not writable,
  /// ResourceExhausted, OutOfRange, InvalidConfig, PlatformError.
  void prefault(std::uint64_t offset, std::uint64_t size, unsigned threads = 0);
  void prefault() { prefault(0, capacity_); }
  /// Throws what `prefault` throws for this range before it does anything; for callers who go piece by piece.
  void check_prefault(std::uint64_t offset, std::uint64_t size) const;

  /// Keeps all pages in memory (mlock2); those without rights once they have some and are touched. Throws
  /// ResourceExhausted with the limit (RLIMIT_MEMLOCK), PlatformError.
  void lock(LockMode mode = LockMode::now);
  void unlock();

  /// Throws NotSupported when this kernel does not know the advice, ResourceExhausted, InvalidConfig, OutOfRange,
  /// PlatformError.
  void advise(Advice advice, std::uint64_t offset, std::uint64_t size);
  void advise(Advice advice) { advise(advice, 0, capacity_); }

  /// Gives pages back to the system. Throws AccessViolation where they are not writable or locked, NotSupported,
  /// InvalidConfig, OutOfRange.
  void purge(std::uint64_t offset, std::uint64_t size, PurgeMode mode = PurgeMode::now);
  void purge(PurgeMode mode = PurgeMode::now) { purge(0, capacity_, mode); }

  /// Bytes in memory now. Before Linux 6.7 pages of zeros that were only read count too. Throws PlatformError.
  std::uint64_t resident() const;
  /// What the kernel put behind the block. Throws PlatformError.
  PageCensus census() const { return count_pages(data_, capacity_); }

  /// The rights of the pages, readable and writable at first; `protect` is Protection::set.
  const Protection& protection() const noexcept { return protection_; }
  void protect(std::uint64_t offset, std::uint64_t size, Access access);

 private:
  struct Parts;
  PageBlock(Parts parts, std::uint64_t size, WxPolicy policy);
  std::uint64_t whole_pages(std::uint64_t offset, std::uint64_t size, const char* what) const;

  std::uint64_t size_;
  std::uint64_t capacity_;
  std::uint64_t alignment_;
  std::uint64_t guard_;
  HugePages huge_pages_;
  std::string refused_;
  MappedPages pages_;
  std::byte* data_;
  Protection protection_;
  int process_;  // that mapped the pages
  std::atomic<bool> missing_in_children_{false};
};

}  // namespace vm::mem
