#include "mem/guest/lazy_writes.hpp"

#include <algorithm>
#include <mutex>

#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

/// What page indices count, whatever the kernel's own pages are.
constexpr std::uint64_t index_unit = 4096;

void append_indices(std::vector<std::uint64_t>& indices, std::uint64_t begin, std::uint64_t end) {
  for (std::uint64_t offset = begin; offset < end; offset += index_unit) indices.push_back(offset / index_unit);
}

}  // namespace

WriteTracker::WriteTracker(Userfault& userfault, std::uint64_t size, std::uint64_t step)
    : userfault_(userfault), size_(size), step_(step) {}

void WriteTracker::start() {
  const std::unique_lock<std::shared_mutex> lock(mutex_);
  if (userfault_.tracking() == WriteTracking::none) {
    throw NotSupported(
        "this kernel cannot track writes through userfaultfd (UFFD_FEATURE_PAGEFAULT_FLAG_WP, Linux "
        "5.7), or the memory was made with tracking none");
  }
  if (!registered_) userfault_.register_write_protection();
  registered_ = true;
  if (userfault_.tracking() == WriteTracking::asynchronous) {
    // Protects what exists and leaves what is missing alone, so that no table is built for a page nobody touched.
    userfault_.scan_written(true, [](std::uint64_t, std::uint64_t) {});
  } else {
    written_.assign(static_cast<std::size_t>(size_ / step_), false);
    userfault_.protect(0, size_, true);
  }
  active_ = true;
}

void WriteTracker::stop() {
  const std::unique_lock<std::shared_mutex> lock(mutex_);
  if (!active_) return;
  active_ = false;
  userfault_.protect(0, size_, false);
  written_ = {};
}

std::vector<std::uint64_t> WriteTracker::dirty(bool reset) {
  const std::unique_lock<std::shared_mutex> lock(mutex_);
  if (!active_) throw InvalidConfig("writes are not tracked; call track_writes() first");
  std::vector<std::uint64_t> indices;
  if (userfault_.tracking() == WriteTracking::asynchronous) {
    userfault_.scan_written(
        reset, [&indices](std::uint64_t begin, std::uint64_t end) { append_indices(indices, begin, end); });
    return indices;
  }
  const auto begin = written_.begin();
  for (auto first = std::find(begin, written_.end(), true); first != written_.end();) {
    const auto last = std::find(first, written_.end(), false);
    const auto offset = static_cast<std::uint64_t>(first - begin) * step_;
    const auto end = static_cast<std::uint64_t>(last - begin) * step_;
    append_indices(indices, offset, end);
    if (reset) {
      // In this order a write between the two belongs to this answer, whose pages the caller has yet to read.
      std::fill(first, last, false);
      userfault_.protect(offset, end - offset, true);
    }
    first = std::find(last, written_.end(), true);
  }
  return indices;
}

void WriteTracker::note(std::uint64_t offset) {
  const std::unique_lock<std::shared_mutex> lock(mutex_);
  const std::uint64_t page = offset / step_;
  if (active_) written_[static_cast<std::size_t>(page)] = true;
  userfault_.protect(page * step_, step_, false);
}

void WriteTracker::forget(std::uint64_t offset, std::uint64_t size) {
  const std::unique_lock<std::shared_mutex> lock(mutex_);
  if (written_.empty()) return;
  const auto first = written_.begin() + static_cast<std::ptrdiff_t>(offset / step_);
  std::fill(first, first + static_cast<std::ptrdiff_t>(size / step_), false);
}

}  // namespace vm::mem
