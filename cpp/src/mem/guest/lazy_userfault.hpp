#pragma once
/// \file
/// One userfaultfd over one range of host memory: the only file of lazy memory that knows the system calls.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "vm/mem/guest/lazy_memory.hpp"
#include "vm/mem/pages/unique_fd.hpp"

namespace vm::mem {

/// A touch that the kernel reports. `offset` is that of the byte, or of its page.
struct FaultMessage {
  std::uint64_t offset;
  bool write_protected;  ///< else missing
};

struct UserfaultOptions {
  WriteTracking tracking;
  bool may_be_synchronous;  ///< false when a writer that waits could hold what the handler threads need
  bool poison;
};

/// Offsets count from the range's first byte. Any number of threads may call anything at once.
class Userfault {
 public:
  static std::optional<std::string> unavailable();

  /// `data` is aligned to `step`, the size of a page of the kernel there; `size` is a multiple. `reserved`: the pages
  /// are hugetlb. Throws NotSupported, PlatformError.
  Userfault(std::byte* data, std::uint64_t size, std::uint64_t step, bool reserved, const UserfaultOptions& options);

  WriteTracking tracking() const noexcept { return tracking_; }
  bool user_mode_only() const noexcept { return user_mode_only_; }
  bool can_zero() const noexcept { return can_zero_; }

  /// Waits for touches; false when `stop` was called. Appends at most `limit` messages, or none when another thread was
  /// faster.
  bool wait(std::vector<FaultMessage>& messages, std::size_t limit) const;
  /// Lets every `wait`, and every `pause`, return, now and later.
  void stop() const noexcept;
  /// Sleeps; false when `stop` was called.
  bool pause(std::uint64_t duration_ns) const noexcept;

  /// Makes pages of a range from `source`, wakes who waits for them. A page that is already there stays as it is.
  void copy(std::uint64_t offset, const std::byte* source, std::uint64_t size, bool protect) const;
  /// The same with zeros, which the kernel need not store.
  void zero(std::uint64_t offset, std::uint64_t size) const;
  void wake(std::uint64_t offset, std::uint64_t size) const;
  void poison(std::uint64_t offset, std::uint64_t size) const;
  /// Takes the pages of a range away.
  void remove(std::uint64_t offset, std::uint64_t size) const;

  /// From now on writes can be protected against.
  void register_write_protection();
  void protect(std::uint64_t offset, std::uint64_t size, bool on) const;
  /// Asynchronous tracking: calls `found(first, last + 1)` in bytes for runs of written pages; with `reset` they are
  /// protected again, each together with being reported.
  void scan_written(bool reset, const std::function<void(std::uint64_t, std::uint64_t)>& found) const;

 private:
  void choose(const UserfaultOptions& options, std::uint64_t features, bool reserved);
  WriteTracking choose_tracking(const UserfaultOptions& options, std::uint64_t features, bool reserved) const;
  void register_range(bool write_protection);

  std::byte* data_;
  std::uint64_t size_;
  std::uint64_t step_;
  WriteTracking tracking_ = WriteTracking::none;
  bool user_mode_only_ = false;
  bool can_zero_ = false;
  UniqueFd fd_;
  UniqueFd stop_;
  UniqueFd pagemap_;
};

}  // namespace vm::mem
