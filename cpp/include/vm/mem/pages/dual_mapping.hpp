#pragma once
/// \file
/// Memory for code that is made at run time: one view to write through, another one to run, no page with both rights.

#include <cstddef>
#include <cstdint>

#include "vm/mem/pages/mapping.hpp"

namespace vm::mem {

/// The same pages twice: readable and writable at one address, readable and executable at another. A memfd that nobody
/// else can open; sealed, so that no third view is writable and the executable one cannot be made so. Zero-filled.
/// Any thread may call anything; who writes what others run synchronises as for any other memory.
class DualMapping {
 public:
  /// `size` > 0; whole pages are mapped. Throws InvalidConfig, ResourceExhausted, NotSupported where shared memory may
  /// not be executable, PlatformError.
  explicit DualMapping(std::uint64_t size);

  /// Bytes, as many as were asked for.
  std::uint64_t size() const noexcept { return size_; }
  /// The writable view; nullptr after `seal`.
  std::byte* writable() const noexcept { return writable_ ? writable_.at(0) : nullptr; }
  /// The executable view.
  const std::byte* executable() const noexcept { return executable_.at(0); }

  /// Copies code to `offset` and calls `flush`. Throws OutOfRange, AccessViolation after `seal`.
  void write(std::uint64_t offset, const void* code, std::uint64_t size);
  /// Makes what was written through `writable` visible to instruction fetch on this thread, and on others once they
  /// synchronise with it (x86 does that by itself; Arm ARM B2.2.5). Throws OutOfRange.
  void flush(std::uint64_t offset, std::uint64_t size) const;
  /// Unmaps the writable view for good: from now on nobody can change the code. Twice is once. No thread may be
  /// writing.
  void seal() noexcept { writable_ = MappedPages(); }
  bool sealed() const noexcept { return !writable_; }

 private:
  void require(std::uint64_t offset, std::uint64_t size, const char* what) const;

  std::uint64_t size_;
  MappedPages writable_;
  MappedPages executable_;
};

}  // namespace vm::mem
