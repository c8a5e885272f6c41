#pragma once
/// \file
/// Calls back a thread that waits, from any thread and from signal handlers.

#include <atomic>

#include "vm/mem/pages/unique_fd.hpp"

namespace vm::accel::scripted {

/// The part of KVM's `immediate_exit` with its signal: a flag for a thread that is about to wait, and a byte in a pipe
/// for one that waits.
class Waker {
 public:
  /// Throws ResourceExhausted, PlatformError.
  Waker();

  /// Any thread; a signal handler too.
  void call() noexcept;
  /// Whether somebody has called since the last `clear`.
  bool called() const noexcept { return called_.load(std::memory_order_relaxed); }
  void clear() noexcept { called_.exchange(false, std::memory_order_acquire); }
  /// Returns when somebody has called, or when this thread has handled a signal.
  void wait() noexcept;

 private:
  mem::UniqueFd read_end_, write_end_;
  std::atomic<bool> called_{false};
  std::atomic<bool> waiting_{false};
};

}  // namespace vm::accel::scripted
