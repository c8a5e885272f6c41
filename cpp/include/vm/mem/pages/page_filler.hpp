#pragma once
/// \file
/// What a host mapping offers when its bytes come on first touch. `LazyMemory` implements it.

#include <cstdint>
#include <memory>

namespace vm::mem {

/// Any number of threads may call anything at once.
class PageFiller {
 public:
  virtual ~PageFiller() = default;

  /// Returns when all pages of [offset, offset + size) of the mapping are there. Throws what the page source throws.
  virtual void require(std::uint64_t offset, std::uint64_t size) = 0;

  /// As `require`, and the pages stay until the result is destroyed; nullptr when nobody needs them to, because a touch
  /// of a missing page can always be served.
  virtual std::shared_ptr<void> hold(std::uint64_t offset, std::uint64_t size) = 0;

  /// For a thread that is about to touch pages, and may have to wait for their source: see PageSource::before_wait.
  virtual std::shared_ptr<void> before_wait() const = 0;

  /// See PageSource::needs_caller_lock.
  virtual bool needs_caller_lock() const noexcept = 0;
};

}  // namespace vm::mem
