#pragma once
/// \file
/// Where the pages of `LazyMemory` come from.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace vm::mem {

class GuestMemory;

/// Gives the bytes of pages that were never touched. Offsets count from the first byte of the lazy memory.
///
/// `fill` is called from handler threads, and from threads that populate, read or write; by several at once, but never
/// for one page at a time by two.
class PageSource {
 public:
  virtual ~PageSource() = default;

  /// Writes all `size` bytes at `out`, which is ordinary memory that nobody else sees yet. Throws when it cannot; what
  /// happens then is told at LazyMemory. Must not touch the memory that it fills.
  virtual void fill(std::uint64_t offset, std::byte* out, std::size_t size) = 0;

  /// True when `fill` may wait for a lock that a thread can hold while it touches the memory, as an interpreter's.
  /// Views of such memory are filled before they are handed out, because their users would hold that lock.
  virtual bool needs_caller_lock() const noexcept { return false; }

  /// Called by a thread that is about to wait for `fill` in other threads. Throws when that could never end; what it
  /// returns lives as long as the wait (it may have let go of a lock).
  virtual std::shared_ptr<void> before_wait() const { return nullptr; }

  /// Called now and then by a thread that waits for pages; throws to give up waiting.
  virtual void check_interrupt() const {}
};

/// Bytes [offset, ...) of a file, read with pread. A file that is too short for the memory, or becomes so, is an error
/// of the pages beyond its end, not zeros. Throws PlatformError, NotSupported (neither a regular file nor a block
/// device).
std::shared_ptr<PageSource> file_source(const std::string& path, std::uint64_t offset = 0);

/// The bytes of `memory` from guest-physical `base` on, read when they are needed: a change there before is seen, a
/// change afterwards is not.
std::shared_ptr<PageSource> memory_source(std::shared_ptr<const GuestMemory> memory, std::uint64_t base = 0);

/// Whatever `fill` writes.
std::shared_ptr<PageSource> function_source(
    std::function<void(std::uint64_t offset, std::byte* out, std::size_t size)> fill);

}  // namespace vm::mem
