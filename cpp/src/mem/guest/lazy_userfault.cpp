#include "mem/guest/lazy_userfault.hpp"

#include "vm/core/error.hpp"

#if defined(__linux__)

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "mem/guest/lazy_abi.hpp"
#include "mem/pages/pagemap_abi.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"

namespace vm::mem {

namespace {

constexpr std::uint64_t ns_per_s = 1000000000;

struct OpenResult {
  UniqueFd fd;
  bool user_mode_only = false;
  std::string why;  // when there is no fd
};

/// All ways to a userfaultfd, the one with the most rights first.
OpenResult open_userfaultfd() {
  OpenResult result;
  constexpr int flags = O_CLOEXEC | O_NONBLOCK;
  result.fd = UniqueFd(static_cast<int>(::syscall(SYS_userfaultfd, flags)));
  if (result.fd) return result;
  const int refused = errno;
  if (refused == ENOSYS) {
    result.why = "this kernel has no userfaultfd (CONFIG_USERFAULTFD is off)";
    return result;
  }
  const UniqueFd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (device) {
    result.fd = UniqueFd(::ioctl(device.get(), abi::ioctl_new, flags));
    if (result.fd) return result;
  }
  result.user_mode_only = true;
  result.fd = UniqueFd(static_cast<int>(::syscall(SYS_userfaultfd, flags | static_cast<int>(abi::user_mode_only))));
  if (!result.fd) {
    result.why = "the system refuses userfaultfd (errno " + std::to_string(refused) +
                 "): a container's seccomp profile may forbid it; else allow it with CAP_SYS_PTRACE, access to "
                 "/dev/userfaultfd, or \"sysctl vm.unprivileged_userfaultfd=1\"";
  }
  return result;
}

/// What the kernel offers; a descriptor can be asked only once.
std::uint64_t offered_features() {
  const OpenResult probe = open_userfaultfd();
  if (!probe.fd) throw NotSupported("lazy memory: " + probe.why);
  uffdio_api api = {};
  api.api = UFFD_API;
  if (::ioctl(probe.fd.get(), UFFDIO_API, &api) != 0)
    throw_system_error("the handshake with userfaultfd failed", errno);
  return api.features;
}

bool has_pagemap_scan(int pagemap) {
  abi::PagemapScan scan = {};
  scan.size = sizeof scan;
  scan.category_mask = abi::page_is_written;
  scan.return_mask = abi::page_is_written;
  return ::ioctl(pagemap, abi::ioctl_pagemap_scan, &scan) >= 0;
}

}  // namespace

std::optional<std::string> Userfault::unavailable() {
  OpenResult probe = open_userfaultfd();
  if (probe.fd) return std::nullopt;
  return probe.why;
}

Userfault::Userfault(std::byte* data, std::uint64_t size, std::uint64_t step, bool reserved,
                     const UserfaultOptions& options)
    : data_(data), size_(size), step_(step) {
  const std::uint64_t features = offered_features();
  OpenResult opened = open_userfaultfd();
  if (!opened.fd) throw NotSupported("lazy memory: " + opened.why);
  fd_ = std::move(opened.fd);
  user_mode_only_ = opened.user_mode_only;
  choose(options, features, reserved);

  uffdio_api api = {};
  api.api = UFFD_API;
  if (tracking_ != WriteTracking::none) api.features |= abi::feature_write_protect;
  if (tracking_ != WriteTracking::none && reserved) api.features |= abi::feature_wp_hugetlbfs;
  if (tracking_ == WriteTracking::asynchronous) api.features |= abi::feature_wp_async;
  if (reserved) api.features |= abi::feature_missing_hugetlbfs;
  if (options.poison) api.features |= abi::feature_poison;
  if (::ioctl(fd_.get(), UFFDIO_API, &api) != 0) throw_system_error("the handshake with userfaultfd failed", errno);

  stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_) throw_system_error("cannot make an eventfd", errno);
  if (::madvise(data_, size_, MADV_DONTFORK) != 0) throw_system_error("madvise refuses MADV_DONTFORK", errno);
  register_range(false);
}

void Userfault::choose(const UserfaultOptions& options, std::uint64_t features, bool reserved) {
  if (reserved && (features & abi::feature_missing_hugetlbfs) == 0) {
    throw NotSupported("this kernel's userfaultfd has no UFFD_FEATURE_MISSING_HUGETLBFS; leave huge_pages out");
  }
  if (options.poison && (features & abi::feature_poison) == 0) {
    throw NotSupported("this kernel's userfaultfd has no UFFD_FEATURE_POISON (Linux 6.6); choose on_failure \"wait\"");
  }
  pagemap_ = UniqueFd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  tracking_ = choose_tracking(options, features, reserved);
}

WriteTracking Userfault::choose_tracking(const UserfaultOptions& options, std::uint64_t features, bool reserved) const {
  const std::uint64_t needed = abi::feature_write_protect | (reserved ? abi::feature_wp_hugetlbfs : 0);
  const bool can_protect = (features & needed) == needed;
  const bool asynchronous =
      can_protect && (features & abi::feature_wp_async) != 0 && pagemap_ && has_pagemap_scan(pagemap_.get());
  switch (options.tracking) {
    case WriteTracking::none: return WriteTracking::none;
    case WriteTracking::automatic:
      if (asynchronous) return WriteTracking::asynchronous;
      return can_protect && options.may_be_synchronous ? WriteTracking::synchronous : WriteTracking::none;
    case WriteTracking::asynchronous:
      if (asynchronous) return WriteTracking::asynchronous;
      throw NotSupported("asynchronous write tracking needs UFFD_FEATURE_WP_ASYNC and PAGEMAP_SCAN (Linux 6.7, /proc)");
    case WriteTracking::synchronous: break;
  }
  if (!can_protect) {
    throw NotSupported(std::string("write tracking needs ") + (reserved
                                                                   ? "UFFD_FEATURE_WP_HUGETLBFS_SHMEM (Linux 5.19)"
                                                                   : "UFFD_FEATURE_PAGEFAULT_FLAG_WP (Linux 5.7)"));
  }
  if (!options.may_be_synchronous) {
    throw NotSupported(
        "with synchronous write tracking a writer could hold the lock that this page source needs, each "
        "waiting for the other; choose asynchronous tracking (Linux 6.7)");
  }
  return WriteTracking::synchronous;
}

void Userfault::register_range(bool write_protection) {
  uffdio_register request = {};
  request.range = {reinterpret_cast<std::uintptr_t>(data_), size_};
  request.mode = UFFDIO_REGISTER_MODE_MISSING | (write_protection ? UFFDIO_REGISTER_MODE_WP : 0U);
  if (::ioctl(fd_.get(), UFFDIO_REGISTER, &request) != 0) {
    throw_system_error("userfaultfd cannot register " + hex(size_) + " bytes", errno);
  }
  can_zero_ = (request.ioctls & (std::uint64_t{1} << _UFFDIO_ZEROPAGE)) != 0;
}

void Userfault::register_write_protection() { register_range(true); }

bool Userfault::wait(std::vector<FaultMessage>& messages, std::size_t limit) const {
  std::array<pollfd, 2> polled = {{{fd_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
  while (::poll(polled.data(), polled.size(), -1) < 0) {
    // EINTR: a signal meant for somebody else. ENOMEM: passing.
  }
  if (polled[1].revents != 0) return false;
  std::array<uffd_msg, 16> raw;
  const std::size_t room = std::min(limit, raw.size()) * sizeof(uffd_msg);
  const ssize_t got = ::read(fd_.get(), raw.data(), room);
  if (got <= 0) return true;
  for (std::size_t i = 0; i < static_cast<std::size_t>(got) / sizeof(uffd_msg); ++i) {
    if (raw[i].event != UFFD_EVENT_PAGEFAULT) continue;
    const std::uint64_t offset = raw[i].arg.pagefault.address - reinterpret_cast<std::uintptr_t>(data_);
    messages.push_back({offset, (raw[i].arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) != 0});
  }
  return true;
}

void Userfault::stop() const noexcept {
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then it is readable as well.
  [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
}

bool Userfault::pause(std::uint64_t duration_ns) const noexcept {
  pollfd polled = {stop_.get(), POLLIN, 0};
  const timespec duration = {static_cast<time_t>(duration_ns / ns_per_s), static_cast<long>(duration_ns % ns_per_s)};
  return ::ppoll(&polled, 1, &duration, nullptr) <= 0;
}

void Userfault::copy(std::uint64_t offset, const std::byte* source, std::uint64_t size, bool protect) const {
  std::uint64_t done = 0;
  while (done < size) {
    uffdio_copy request = {};
    request.dst = reinterpret_cast<std::uintptr_t>(data_ + offset + done);
    request.src = reinterpret_cast<std::uintptr_t>(source + done);
    request.len = size - done;
    request.mode = protect ? UFFDIO_COPY_MODE_WP : 0U;
    if (::ioctl(fd_.get(), UFFDIO_COPY, &request) == 0) return;
    const int code = errno;
    if (request.copy > 0) {
      done += static_cast<std::uint64_t>(request.copy);
    } else if (code == EEXIST) {
      wake(offset + done, step_);
      done += step_;
    } else if (code != EAGAIN) {  // EAGAIN: the layout of our address space is being changed
      if (code == ENOMEM) throw ResourceExhausted("no memory for the page at offset " + hex(offset + done));
      throw_system_error("UFFDIO_COPY of " + hex(size - done) + " bytes at offset " + hex(offset + done), code);
    }
  }
}

void Userfault::zero(std::uint64_t offset, std::uint64_t size) const {
  std::uint64_t done = 0;
  while (done < size) {
    uffdio_zeropage request = {};
    request.range = {reinterpret_cast<std::uintptr_t>(data_ + offset + done), size - done};
    if (::ioctl(fd_.get(), UFFDIO_ZEROPAGE, &request) == 0) return;
    const int code = errno;
    if (request.zeropage > 0) {
      done += static_cast<std::uint64_t>(request.zeropage);
    } else if (code == EEXIST) {
      // Not only a page: a marker of write protection or poison is in the way too, and UFFDIO_COPY replaces those.
      const std::vector<std::byte> zeros(step_);
      copy(offset + done, zeros.data(), step_, false);
      done += step_;
    } else if (code != EAGAIN) {
      if (code == ENOMEM) throw ResourceExhausted("no memory for the page at offset " + hex(offset + done));
      throw_system_error("UFFDIO_ZEROPAGE of " + hex(size - done) + " bytes at offset " + hex(offset + done), code);
    }
  }
}

void Userfault::wake(std::uint64_t offset, std::uint64_t size) const {
  uffdio_range range = {reinterpret_cast<std::uintptr_t>(data_ + offset), size};
  if (::ioctl(fd_.get(), UFFDIO_WAKE, &range) != 0) throw_system_error("UFFDIO_WAKE at offset " + hex(offset), errno);
}

void Userfault::poison(std::uint64_t offset, std::uint64_t size) const {
  std::uint64_t done = 0;
  while (done < size) {
    abi::Poison request = {{reinterpret_cast<std::uintptr_t>(data_ + offset + done), size - done}, 0, 0};
    if (::ioctl(fd_.get(), abi::ioctl_poison, &request) == 0) return;
    const int code = errno;
    if (request.updated > 0) {
      done += static_cast<std::uint64_t>(request.updated);
    } else if (code == EEXIST) {
      wake(offset + done, step_);
      done += step_;
    } else if (code != EAGAIN) {
      throw_system_error("UFFDIO_POISON at offset " + hex(offset + done), code);
    }
  }
}

void Userfault::remove(std::uint64_t offset, std::uint64_t size) const {
  if (::madvise(data_ + offset, size, MADV_DONTNEED) != 0) {
    throw_system_error("MADV_DONTNEED of " + hex(size) + " bytes at offset " + hex(offset), errno);
  }
}

void Userfault::protect(std::uint64_t offset, std::uint64_t size, bool on) const {
  uffdio_writeprotect request = {};
  request.range = {reinterpret_cast<std::uintptr_t>(data_ + offset), size};
  request.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0U;
  while (::ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &request) != 0) {
    if (errno != EAGAIN) throw_system_error("UFFDIO_WRITEPROTECT at offset " + hex(offset), errno);
  }
}

void Userfault::scan_written(bool reset, const std::function<void(std::uint64_t, std::uint64_t)>& found) const {
  const auto start = reinterpret_cast<std::uintptr_t>(data_);
  std::array<abi::PageRun, 512> runs;
  abi::PagemapScan scan = {};
  scan.size = sizeof scan;
  scan.flags = abi::scan_check_async | (reset ? abi::scan_protect_matching : 0);
  scan.start = start;
  scan.end = start + size_;
  scan.vec = reinterpret_cast<std::uintptr_t>(runs.data());
  scan.vec_len = runs.size();
  scan.category_mask = abi::page_is_written;
  // Also keeps the kernel from its short cut for "written" alone, which takes missing pages for written ones.
  scan.category_anyof_mask = abi::page_is_present | abi::page_is_swapped;
  scan.return_mask = abi::page_is_written;
  while (scan.start < scan.end) {
    const int count = ::ioctl(pagemap_.get(), abi::ioctl_pagemap_scan, &scan);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_system_error("PAGEMAP_SCAN of " + hex(size_) + " bytes", errno);
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) found(runs[i].start - start, runs[i].end - start);
    scan.start = scan.walk_end;
  }
}

}  // namespace vm::mem

#else

namespace vm::mem {

namespace {

constexpr const char* only_linux =
    "lazy memory needs userfaultfd, which only Linux has; read the pages into "
    "GuestMemory::anonymous instead";

}  // namespace

std::optional<std::string> Userfault::unavailable() { return only_linux; }

// The constructor throws, so none of the others is ever called; they are here for the linker.
Userfault::Userfault(std::byte*, std::uint64_t, std::uint64_t, bool, const UserfaultOptions&) {
  throw NotSupported(only_linux);
}
bool Userfault::wait(std::vector<FaultMessage>&, std::size_t) const { return false; }
void Userfault::stop() const noexcept {}
bool Userfault::pause(std::uint64_t) const noexcept { return false; }
void Userfault::copy(std::uint64_t, const std::byte*, std::uint64_t, bool) const {}
void Userfault::zero(std::uint64_t, std::uint64_t) const {}
void Userfault::wake(std::uint64_t, std::uint64_t) const {}
void Userfault::poison(std::uint64_t, std::uint64_t) const {}
void Userfault::remove(std::uint64_t, std::uint64_t) const {}
void Userfault::register_write_protection() {}
void Userfault::protect(std::uint64_t, std::uint64_t, bool) const {}
void Userfault::scan_written(bool, const std::function<void(std::uint64_t, std::uint64_t)>&) const {}

}  // namespace vm::mem

#endif
