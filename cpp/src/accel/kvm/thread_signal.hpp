#pragma once
/// \file
/// How a thread inside KVM_RUN is called back: a flag that the kernel reads on entry, then a signal for a thread that
/// is past that point (Linux, Documentation/virt/kvm/api.rst §5, `immediate_exit`). Nothing is lost in between.

#include <atomic>
#include <cstdint>

namespace vm::accel::kvm {

/// Where a vCPU's thread can be interrupted.
class ThreadSignal {
 public:
  /// `immediate_exit` is the byte that the kernel reads; it lives as long as this object.
  explicit ThreadSignal(volatile std::uint8_t* immediate_exit) noexcept : immediate_exit_(immediate_exit) {}
  ThreadSignal(const ThreadSignal&) = delete;
  ThreadSignal& operator=(const ThreadSignal&) = delete;

  /// Makes the calling thread interruptible. The first call in a process gives the first unused real-time signal a
  /// handler that does nothing. Throws ResourceExhausted when all are in use.
  static void prepare_thread();

  /// The KVM_RUN in progress, or the next one, returns EINTR. Any thread; a signal handler too.
  void send() noexcept;
  /// The calling thread is about to enter KVM_RUN.
  void entering() noexcept;
  /// It is back.
  void left() noexcept { thread_.store(0, std::memory_order_release); }
  /// After EINTR: the next KVM_RUN does not return at once any more.
  void clear() noexcept { __atomic_store_n(immediate_exit_, std::uint8_t{0}, __ATOMIC_SEQ_CST); }

 private:
  volatile std::uint8_t* immediate_exit_;
  std::atomic<std::int32_t> thread_{0};  // the kernel's number of the thread inside; 0: none
};

}  // namespace vm::accel::kvm
