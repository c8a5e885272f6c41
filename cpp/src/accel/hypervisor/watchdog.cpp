#include "vm/accel/hypervisor/watchdog.hpp"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "thread_signals.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

std::int64_t nanoseconds(Clock::time_point point) noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(point.time_since_epoch()).count();
}

}  // namespace

/// Apart from the Watchdog, because the child of a fork can neither join the thread nor take down what it waits on.
struct Watchdog::State {
  bool forked() const noexcept { return process != 0 && process != ::getpid(); }

  std::mutex mutex;
  std::condition_variable wake;
  std::vector<Entry*> entries;            // guarded by mutex
  bool stopping = false;                  // guarded by mutex
  std::atomic<std::int64_t> next{never};  // when the thread looks again
  std::atomic<pid_t> process{0};          // that the thread belongs to; 0: there is none yet
  std::thread thread;                     // guarded by mutex
};

Watchdog::Watchdog() : state_(std::make_unique<State>()) {}

Watchdog::~Watchdog() {
  if (state_->forked()) {
    static_cast<void>(state_.release());
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  if (state_->thread.joinable()) state_->thread.join();
}

void Watchdog::add(Entry& entry) {
  State& state = *state_;
  const std::lock_guard<std::mutex> lock(state.mutex);
  state.entries.push_back(&entry);
  if (state.thread.joinable()) return;
  try {
    const BlockAllSignals quiet;  // the new thread inherits the mask: the process's signals are not for it
    state.thread = std::thread([&state] { watch(state); });
    state.process = ::getpid();
  } catch (const std::system_error& error) {
    state.entries.pop_back();
    throw PlatformError(std::string("a timeout needs a thread that watches the clock: ") + error.what(),
                        error.code().value());
  }
}

void Watchdog::remove(Entry& entry) noexcept {
  if (state_->forked()) return;  // the thread, which is not here, may have held the lock
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->entries.erase(std::remove(state_->entries.begin(), state_->entries.end(), &entry), state_->entries.end());
}

void Watchdog::arm(Entry& entry, Clock::time_point deadline) {
  const std::int64_t at = nanoseconds(deadline);
  // seq_cst, as in watch(): either the thread sees this deadline before it sleeps, or this thread sees `next`.
  entry.deadline_ns_.store(at, std::memory_order_seq_cst);
  if (at >= state_->next.load(std::memory_order_seq_cst)) return;
  { const std::lock_guard<std::mutex> lock(state_->mutex); }  // the thread is asleep or has not looked yet
  state_->wake.notify_one();
}

void Watchdog::watch(State& state) {
  std::unique_lock<std::mutex> lock(state.mutex);
  while (!state.stopping) {
    // Until the entries are read, every deadline counts as earlier than the next look.
    state.next.store(never, std::memory_order_seq_cst);
    const std::int64_t now = nanoseconds(Clock::now());
    std::int64_t next = never;
    for (Entry* entry : state.entries) {
      std::int64_t deadline = entry->deadline_ns_.load(std::memory_order_seq_cst);
      if (deadline <= now && entry->deadline_ns_.compare_exchange_strong(deadline, never)) {
        entry->vcpu_.nudge();
        continue;
      }
      next = std::min(next, deadline);
    }
    state.next.store(next, std::memory_order_seq_cst);
    const bool moved = std::any_of(state.entries.begin(), state.entries.end(), [next](const Entry* entry) {
      return entry->deadline_ns_.load(std::memory_order_seq_cst) < next;
    });
    if (moved) continue;
    if (next == never) {
      state.wake.wait(lock);
    } else {
      state.wake.wait_until(lock, Clock::time_point(std::chrono::nanoseconds(next)));
    }
  }
}

}  // namespace vm::accel
