#pragma once
/// \file
/// Memory for code that is made at run time: one view to write through, another one to run, no page with both rights.

#include <cstddef>
#include <cstdint>

#include "vm/mem/pages/mapping.hpp"

namespace vm::mem {

/// The same pages twice: readable and writable at one address, readable and executable at another. A memfd that nobody
/// else can open; sealed, so that no third view is writable and the executable one cannot be made so. Zero-filled.
/// Any thread may call anything; who writes what others run synchronises as for any other memory. A child of fork has
/// the executable view only: to it the code is sealed, and it sees what the parent writes.
class DualMapping {
 public:
  /// `size` > 0; whole pages are mapped. Throws InvalidConfig, ResourceExhausted, NotSupported where shared memory may
  /// not be executable, PlatformError.
  explicit DualMapping(std::uint64_t size);
  DualMapping(const DualMapping&) = delete;
  DualMapping& operator=(const DualMapping&) = delete;
  ~DualMapping() { seal(); }

  /// Bytes, as many as were asked for.
  std::uint64_t size() const noexcept { return size_; }
  /// The writable view; nullptr after `seal`.
  std::byte* writable() const noexcept { return sealed() ? nullptr : writable_.at(0); }
  /// The executable view.
  const std::byte* executable() const noexcept { return executable_.at(0); }

  /// Copies code to `offset` and calls `flush`. Throws OutOfRange, AccessViolation after `seal`.
  void write(std::uint64_t offset, const void* code, std::uint64_t size);
  /// Makes what was written through `writable` visible to instruction fetch on this thread, and on others once they
  /// synchronise with it (x86 does that by itself; Arm ARM B2.2.5). Throws OutOfRange.
  void flush(std::uint64_t offset, std::uint64_t size) const;
  /// Unmaps the writable view for good: from now on nobody can change the code. Twice is once. No thread may be
  /// writing.
  void seal() noexcept;
  bool sealed() const noexcept { return !writable_ || in_child(); }

 private:
  bool in_child() const noexcept;
  void require(std::uint64_t offset, std::uint64_t size, const char* what) const;

  std::uint64_t size_;
  int process_;  // that has the writable view
  MappedPages writable_;
  MappedPages executable_;
};

}  // namespace vm::mem
