#include "waker.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "stage.hpp"

namespace vm::accel::scripted {
namespace {

void set_flags(int fd) {
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || ::fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
    throw_failure("preparing the pipe of a scripted vCPU", errno);
}

}  // namespace

Waker::Waker() {
  int ends[2];
  if (::pipe(ends) != 0) throw_failure("opening the pipe of a scripted vCPU", errno);
  read_end_ = mem::UniqueFd(ends[0]);
  write_end_ = mem::UniqueFd(ends[1]);
  set_flags(ends[0]);
  set_flags(ends[1]);
}

void Waker::call() noexcept {
  // The flag, then a look at who waits; wait() writes that it waits, then reads the flag. All are sequentially
  // consistent, so not both can miss each other.
  called_.store(true, std::memory_order_seq_cst);
  if (!waiting_.load(std::memory_order_seq_cst)) return;
  const int before = errno;  // this may be a signal handler
  const char byte = 0;
  // A full pipe wakes the reader as well.
  [[maybe_unused]] const auto written = ::write(write_end_.get(), &byte, 1);
  errno = before;
}

void Waker::wait() noexcept {
  waiting_.store(true, std::memory_order_seq_cst);
  while (!called_.load(std::memory_order_seq_cst)) {
    pollfd wanted{read_end_.get(), POLLIN, 0};
    if (::poll(&wanted, 1, -1) < 0) break;
    // Bytes of callers that were late for the wait before are in here as well, which is why the flag decides.
    char bytes[64];
    while (::read(read_end_.get(), bytes, sizeof bytes) > 0) {
    }
  }
  waiting_.store(false, std::memory_order_relaxed);
}

}  // namespace vm::accel::scripted
