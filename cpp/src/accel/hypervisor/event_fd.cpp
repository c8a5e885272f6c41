#include "vm/accel/hypervisor/event_fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "vm/core/error.hpp"

#if defined(__linux__)
#include <sys/eventfd.h>
#endif

namespace vm::accel {
namespace {

constexpr std::uint64_t too_many = UINT64_MAX;  // eventfd(2): the largest count is one less

[[noreturn]] void fail(const std::string& what, int code) {
  const std::string message = what + ": " + std::strerror(code);
  if (code == EMFILE || code == ENFILE || code == ENOMEM) throw ResourceExhausted(message);
  throw PlatformError(message, code);
}

void check_count(std::uint64_t count) {
  if (count == too_many) throw InvalidConfig("an event counts to 2^64 - 2 at most, got 2^64 - 1");
}

#if defined(__linux__)
mem::UniqueFd create(std::uint64_t count, bool semaphore) {
  check_count(count);
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (semaphore ? EFD_SEMAPHORE : 0));
  if (fd < 0) fail("eventfd", errno);
  return mem::UniqueFd(fd);
}

void check_is_eventfd(int descriptor) {
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  std::array<char, 64> target{};
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  const std::string_view found(target.data(), length > 0 ? static_cast<std::size_t>(length) : 0);
  if (found == "anon_inode:[eventfd]") return;
  throw InvalidConfig("descriptor " + std::to_string(descriptor) + " is not an eventfd but " +
                      (found.empty() ? "closed" : std::string(found)) + "; make one with eventfd(2) or EventFd()");
}
#else
mem::UniqueFd create(std::uint64_t /*count*/, bool /*semaphore*/) {
  throw NotSupported("event descriptors exist on Linux only (eventfd)");
}

void check_is_eventfd(int /*descriptor*/) { create(0, false); }
#endif

}  // namespace

EventFd::EventFd(std::uint64_t count, bool semaphore) : fd_(create(count, semaphore)) {
  if (count > 0) write(count);  // eventfd(2) itself takes 32 bits only
}

std::shared_ptr<EventFd> EventFd::duplicate_of(int descriptor) {
  check_is_eventfd(descriptor);
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags < 0) fail("descriptor " + std::to_string(descriptor), errno);
  if ((flags & O_NONBLOCK) == 0) {
    throw InvalidConfig("eventfd " + std::to_string(descriptor) +
                        " blocks; make it with EFD_NONBLOCK, or call os.set_blocking(fd, False) first");
  }
  mem::UniqueFd copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
  if (!copy) fail("duplicating descriptor " + std::to_string(descriptor), errno);
  return std::shared_ptr<EventFd>(new EventFd(std::move(copy)));
}

std::optional<std::uint64_t> EventFd::read() {
  std::uint64_t count = 0;
  for (;;) {
    if (::read(fd_.get(), &count, sizeof count) == sizeof count) return count;
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) fail("reading an event", errno);
  }
}

void EventFd::write(std::uint64_t count) {
  check_count(count);
  for (;;) {
    if (::write(fd_.get(), &count, sizeof count) == sizeof count) return;
    if (errno == EAGAIN) throw ResourceExhausted("the event's count would pass 2^64 - 2; read it first");
    if (errno != EINTR) fail("writing an event", errno);
  }
}

bool EventFd::wait(std::chrono::nanoseconds timeout) const {
  using Steady = std::chrono::steady_clock;
  const Steady::time_point deadline = Steady::now() + timeout;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Steady::now()).count() + 1;
    pollfd entry{fd_.get(), POLLIN, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 1 << 30)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) fail("waiting for an event", errno);
    if (Steady::now() >= deadline) return false;
  }
}

}  // namespace vm::accel
