#include "thread_signal.hpp"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>

#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

// What a signal does belongs to the process, so this is the one state here that cannot belong to an object.
std::atomic<int> the_signal{0};

extern "C" void vm_accel_ignore_signal(int /*signal*/) {}

int install() {
  for (int number = SIGRTMIN + 1; number <= SIGRTMAX; ++number) {
    struct sigaction old {};
    if (::sigaction(number, nullptr, &old) != 0 || old.sa_handler != SIG_DFL) continue;
    struct sigaction action {};
    action.sa_handler = &vm_accel_ignore_signal;
    // One that comes late must not fail what the thread does by then; KVM_RUN is never restarted.
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    if (::sigaction(number, &action, nullptr) == 0) return number;
  }
  throw ResourceExhausted("interrupting a vCPU needs a real-time signal, and this process handles all of them itself");
}

std::int32_t this_thread() noexcept {
  thread_local const auto id = static_cast<std::int32_t>(::syscall(SYS_gettid));
  return id;
}

}  // namespace

void ThreadSignal::prepare_thread() {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (the_signal.load(std::memory_order_relaxed) == 0) the_signal.store(install(), std::memory_order_release);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, the_signal.load(std::memory_order_relaxed));
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void ThreadSignal::send() noexcept {
  // The flag, then a look at who is inside; `entering` writes who is inside, then the kernel reads the flag. Both are
  // sequentially consistent, so not both can miss each other.
  __atomic_store_n(immediate_exit_, std::uint8_t{1}, __ATOMIC_SEQ_CST);
  const std::int32_t thread = thread_.load(std::memory_order_seq_cst);
  if (thread != 0) ::syscall(SYS_tgkill, ::getpid(), thread, the_signal.load(std::memory_order_acquire));
}

void ThreadSignal::entering() noexcept { thread_.store(this_thread(), std::memory_order_seq_cst); }

}  // namespace vm::accel::kvm
