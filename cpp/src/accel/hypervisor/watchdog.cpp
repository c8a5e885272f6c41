#include "vm/accel/hypervisor/watchdog.hpp"

#include <algorithm>
#include <system_error>

#include "thread_signals.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

std::int64_t nanoseconds(Clock::time_point point) noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(point.time_since_epoch()).count();
}

}  // namespace

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::add(Entry& entry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_.push_back(&entry);
  if (thread_.joinable()) return;
  try {
    const BlockAllSignals quiet;  // the new thread inherits the mask: the process's signals are not for it
    thread_ = std::thread([this] { watch(); });
  } catch (const std::system_error& error) {
    entries_.pop_back();
    throw PlatformError(std::string("a timeout needs a thread that watches the clock: ") + error.what(),
                        error.code().value());
  }
}

void Watchdog::remove(Entry& entry) noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  entries_.erase(std::remove(entries_.begin(), entries_.end(), &entry), entries_.end());
}

void Watchdog::arm(Entry& entry, Clock::time_point deadline) {
  const std::int64_t at = nanoseconds(deadline);
  // seq_cst, as in watch(): either the thread sees this deadline before it sleeps, or this thread sees `next_`.
  entry.deadline_ns_.store(at, std::memory_order_seq_cst);
  if (at >= next_.load(std::memory_order_seq_cst)) return;
  { const std::lock_guard<std::mutex> lock(mutex_); }  // the thread is asleep or has not looked yet
  wake_.notify_one();
}

void Watchdog::watch() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    // Until the entries are read, every deadline counts as earlier than the next look.
    next_.store(never, std::memory_order_seq_cst);
    const std::int64_t now = nanoseconds(Clock::now());
    std::int64_t next = never;
    for (Entry* entry : entries_) {
      std::int64_t deadline = entry->deadline_ns_.load(std::memory_order_seq_cst);
      if (deadline <= now && entry->deadline_ns_.compare_exchange_strong(deadline, never)) {
        entry->vcpu_.nudge();
        continue;
      }
      next = std::min(next, deadline);
    }
    next_.store(next, std::memory_order_seq_cst);
    const bool moved = std::any_of(entries_.begin(), entries_.end(), [next](const Entry* entry) {
      return entry->deadline_ns_.load(std::memory_order_seq_cst) < next;
    });
    if (moved) continue;
    if (next == never) {
      wake_.wait(lock);
    } else {
      wake_.wait_until(lock, Clock::time_point(std::chrono::nanoseconds(next)));
    }
  }
}

}  // namespace vm::accel
