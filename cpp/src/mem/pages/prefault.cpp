#include "mem/pages/prefault.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "core/affinity.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // Linux 5.14, younger than Debian 12's C library
#endif

namespace vm::mem {

namespace {

// What a thread takes at a time: a huge page, which two threads then never share. Not more, because one of them may
// meet pages that cost twenty times as much (in a virtual machine, those that the host has yet to find), and the others
// should not wait for it.
constexpr std::uint64_t step = std::uint64_t{2} << 20;
// What is worth a thread: clearing it takes about a millisecond, starting one some ten microseconds.
constexpr std::uint64_t thread_share = std::uint64_t{16} << 20;
// Clearing pages is limited by the memory's bandwidth, which a handful of processors reach.
constexpr unsigned most_useful = 16;

/// The kernel looks at the advice first, and then finds that there is nothing to do.
bool knows_populate_write() noexcept {
  static const bool known = ::madvise(nullptr, 0, MADV_POPULATE_WRITE) == 0;
  return known;
}

/// Takes steps of the range until none is left or one failed.
class Prefault {
 public:
  Prefault(std::byte* data, std::uint64_t size) noexcept : data_(data), size_(size) {}

  void work() noexcept {
    while (code_.load(std::memory_order_relaxed) == 0) {
      // Relaxed: the counter only hands out steps; joining the threads publishes the rest.
      const std::uint64_t offset = next_.fetch_add(step, std::memory_order_relaxed);
      if (offset >= size_) return;
      const std::uint64_t count = std::min(step, size_ - offset);
      const int code = populate_write(data_ + offset, count);
      // A kernel that knows the advice says the same of pages that another thread just made read-only: a touch of
      // these would end the process.
      if (code == EINVAL && !knows_populate_write()) {
        touch_pages(data_ + offset, count);
      } else if (code != 0) {
        code_.store(code, std::memory_order_relaxed);
      }
    }
  }

  int code() const noexcept { return code_.load(std::memory_order_relaxed); }

 private:
  std::byte* data_;
  std::uint64_t size_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<int> code_{0};
};

}  // namespace

int populate_write(std::byte* data, std::uint64_t size) noexcept {
  while (::madvise(data, size, MADV_POPULATE_WRITE) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

void touch_pages(std::byte* data, std::uint64_t size) noexcept {
  const std::uint64_t page = host_page_size();
  auto* bytes = reinterpret_cast<unsigned char*>(data);
  for (std::uint64_t offset = 0; offset < size; offset += page) {
    __atomic_fetch_or(bytes + offset, 0, __ATOMIC_RELAXED);
  }
}

unsigned prefault_threads(std::uint64_t size, unsigned cpus) noexcept {
  return static_cast<unsigned>(
      std::clamp<std::uint64_t>(size / thread_share, 1, std::min(std::max(cpus, 1U), most_useful)));
}

void prefault_pages(std::byte* data, std::uint64_t size, unsigned threads) {
  if (threads == 0) threads = prefault_threads(size, useful_threads());
  Prefault job(data, size);
  std::vector<std::thread> helpers;
  helpers.reserve(threads - 1);
  try {
    while (helpers.size() + 1 < threads) helpers.emplace_back(&Prefault::work, &job);
  } catch (const std::exception&) {
    // No more threads to be had: those that there are do all of it.
  }
  job.work();
  for (std::thread& helper : helpers) helper.join();
  if (job.code() == 0) return;
  const std::string what = "cannot prefault " + hex(size) + " bytes";
  if (job.code() == EINVAL)
    throw AccessViolation(what + ": some are not writable any more; do not protect pages while they are prefaulted");
  if (job.code() == ENOMEM) throw ResourceExhausted(what + ": the system has no memory for them");
  throw_system_error(what, job.code());
}

}  // namespace vm::mem
