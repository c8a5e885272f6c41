#pragma once
/// \file
/// `EventFd`: a counter behind a descriptor (Linux, eventfd(2)), by which a hypervisor and this process wake each other
/// without an exit of the guest.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "vm/mem/pages/unique_fd.hpp"

namespace vm::accel {

/// Any thread may call anything at once. The descriptor is closed on exec and never blocks.
class EventFd {
 public:
  /// `semaphore`: every `read` takes 1 instead of the whole count. Throws InvalidConfig for a count of 2^64 - 1,
  /// ResourceExhausted, NotSupported outside Linux.
  explicit EventFd(std::uint64_t count = 0, bool semaphore = false);
  /// Another name for an eventfd that somebody else made; `descriptor` stays theirs. Throws InvalidConfig when it is
  /// none, or one that blocks (reading could then wait for ever), NotSupported outside Linux.
  static std::shared_ptr<EventFd> duplicate_of(int descriptor);

  int descriptor() const noexcept { return fd_.get(); }

  /// The count, which is 0 afterwards; nothing when it is 0 already. A semaphore gives 1 and is less by 1.
  std::optional<std::uint64_t> read();
  /// Adds to the count. Throws ResourceExhausted when it would pass 2^64 - 2, InvalidConfig for 2^64 - 1.
  void write(std::uint64_t count = 1);
  /// Whether the count is more than 0 before `timeout` is over.
  bool wait(std::chrono::nanoseconds timeout) const;

 private:
  explicit EventFd(mem::UniqueFd fd) noexcept : fd_(std::move(fd)) {}

  mem::UniqueFd fd_;
};

}  // namespace vm::accel
