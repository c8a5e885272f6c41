#pragma once
/// \file
/// Objects that are dear to make, lent and taken back. The invariant: every object in existence is in exactly one list
/// (idle, on loan, or that of the one thread that is just making, checking or destroying it), and hooks run without the
/// lock, so they may take as long as they like and use the pool themselves.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <iterator>
#include <list>
#include <memory>
#include <mutex>
#include <utility>

#include "vm/mem/alloc/pool_config.hpp"

namespace vm::mem::alloc {

/// What a pool calls; all but `create` may be empty. A hook is called by the thread that acquires, releases or evicts.
template <class T>
struct PoolHooks {
  std::function<std::unique_ptr<T>()> create;  ///< what it throws goes to who acquires
  std::function<void(T&)> reset = nullptr;     ///< after a loan; when it throws, or the clock, the object is destroyed
  std::function<bool(T&)> validate = nullptr;  ///< before a loan of an idle one; when not, the object is destroyed
  std::function<std::uint64_t()> now_ns = &steady_now_ns;
};

/// Lends the object that was used last, because its memory is warm; so the others grow old and can be evicted. No
/// thread of its own: evictions happen in calls. All members may be called concurrently, except the destructor. After
/// fork() only a child of a process with one thread may go on using it.
template <class T>
class ObjectPool {
  struct Node {
    std::unique_ptr<T> object;
    std::uint64_t idle_since = 0;
  };
  using Nodes = std::list<Node>;
  struct State;

 public:
  /// An object on loan, or nothing; returned by its destructor. It may outlive the pool, which then destroys the object
  /// on return.
  class Lease {
   public:
    Lease() noexcept = default;
    Lease(Lease&& other) noexcept : state_(std::move(other.state_)), node_(other.node_) { other.state_.reset(); }
    Lease& operator=(Lease&& other) noexcept {
      std::swap(state_, other.state_);
      std::swap(node_, other.node_);
      return *this;
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() {
      try {
        release();
      } catch (...) {  // the object is gone and counted in failed_resets; a destructor has nobody to tell
      }
    }
    explicit operator bool() const noexcept { return state_ != nullptr; }
    T& operator*() const noexcept { return *node_->object; }
    T* operator->() const noexcept { return node_->object.get(); }
    T* get() const noexcept { return state_ ? node_->object.get() : nullptr; }
    /// Gives the object back now; nothing when that was done. \throws what `reset` throws
    void release() {
      if (const std::shared_ptr<State> state = std::move(state_)) state->put(node_);
    }

   private:
    friend class ObjectPool;
    Lease(std::shared_ptr<State> state, typename Nodes::iterator node) : state_(std::move(state)), node_(node) {}
    std::shared_ptr<State> state_;
    typename Nodes::iterator node_;
  };

  /// Makes limits.min objects. \throws InvalidConfig for limits that contradict each other, what `create` throws
  explicit ObjectPool(PoolHooks<T> hooks, const PoolLimits& limits = {})
      : state_(std::make_shared<State>(std::move(hooks), limits)) {
    state_->prefill();
  }
  ObjectPool(const ObjectPool&) = delete;
  ObjectPool& operator=(const ObjectPool&) = delete;
  ~ObjectPool() { state_->close(); }

  /// An idle object that is valid, or a new one. \throws ResourceExhausted when max are on loan, what hooks throw
  Lease acquire() {
    Lease lease = take();
    if (!lease) detail::throw_pool_exhausted(state_->limits);
    return lease;
  }
  /// The same, but an empty Lease when max are on loan.
  Lease try_acquire() { return take(); }
  /// The same, but waits for so many nanoseconds at most until one is returned. \throws ResourceExhausted
  Lease acquire_for(std::uint64_t timeout_ns) {
    const auto end = std::chrono::steady_clock::now() + to_duration(timeout_ns);
    while (true) {
      if (Lease lease = take()) return lease;
      if (!state_->wait_until(end)) detail::throw_pool_exhausted(state_->limits);
    }
  }
  /// Waits until an object may be had, without taking it; false when none was in time.
  bool wait_for(std::uint64_t timeout_ns) {
    return state_->wait_until(std::chrono::steady_clock::now() + to_duration(timeout_ns));
  }

  /// Destroys what has been idle for too long; returns how many. Those above limits.min only.
  std::size_t evict() { return state_->evict(); }
  /// Destroys all that is idle, also below limits.min; returns how many.
  std::size_t clear() { return state_->clear(); }
  PoolStats stats() const { return state_->account(); }
  const PoolLimits& limits() const noexcept { return state_->limits; }

 private:
  static std::chrono::nanoseconds to_duration(std::uint64_t ns) {
    constexpr std::uint64_t longest = std::uint64_t{1} << 60;  // 36 years, so that adding it to now does not overflow
    return std::chrono::nanoseconds(std::min(ns, longest));
  }
  Lease take() {
    typename Nodes::iterator node;
    if (!state_->take(node)) return {};
    return {state_, node};
  }

  std::shared_ptr<State> state_;
};

/// Shared with the leases.
template <class T>
struct ObjectPool<T>::State {
  State(PoolHooks<T> h, const PoolLimits& l) : hooks(std::move(h)), limits(l) { require_valid(l); }

  void prefill() {
    for (std::size_t i = 0; i < limits.min; ++i) {
      Nodes fresh;
      fresh.push_back({hooks.create(), hooks.now_ns()});
      const std::lock_guard<std::mutex> lock(mutex);
      ++total;
      ++stats.created;
      idle.splice(idle.end(), fresh);
    }
  }

  bool take(typename Nodes::iterator& out) {
    const std::uint64_t now = hooks.now_ns();
    while (true) {
      Nodes gone;
      Nodes mine;
      bool room = true;
      {
        const std::lock_guard<std::mutex> lock(mutex);
        evict_aged(now, gone);
        if (!idle.empty()) {
          mine.splice(mine.end(), idle, std::prev(idle.end()));
        } else if (total < limits.max) {
          ++total;
        } else if (gone.empty()) {
          ++stats.refused;
          return false;
        } else {
          room = false;
        }
      }
      destroy(gone);
      if (!room) continue;  // there is now, unless others were faster
      const bool reused = !mine.empty();
      if (reused ? !valid(mine) : !made(mine)) continue;
      const std::lock_guard<std::mutex> lock(mutex);
      out = mine.begin();
      lent.splice(lent.end(), mine);
      ++stats.acquired;
      stats.reused += static_cast<std::uint64_t>(reused);
      stats.created += static_cast<std::uint64_t>(!reused);
      stats.peak_in_use = std::max<std::uint64_t>(stats.peak_in_use, lent.size());
      return true;
    }
  }

  void put(typename Nodes::iterator node) {
    Nodes gone;
    Nodes mine;
    std::uint64_t now = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      mine.splice(mine.end(), lent, node);
    }
    try {
      if (hooks.reset) hooks.reset(*mine.front().object);
      now = hooks.now_ns();
    } catch (...) {
      lose(mine, &PoolStats::failed_resets);
      throw;
    }
    {
      const std::lock_guard<std::mutex> lock(mutex);
      mine.front().idle_since = now;
      idle.splice(idle.end(), mine);
      evict_aged(now, gone);
      while (idle.size() > limits.max_idle && may_drop()) drop_oldest(gone, &PoolStats::evicted_lru);
      if (closed) drop_all(gone);
    }
    available.notify_one();
    destroy(gone);
  }

  std::size_t evict() {
    Nodes gone;
    const std::uint64_t now = hooks.now_ns();
    {
      const std::lock_guard<std::mutex> lock(mutex);
      evict_aged(now, gone);
    }
    return destroy(gone);
  }
  std::size_t clear() {
    Nodes gone;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      drop_all(gone);
    }
    return destroy(gone);
  }
  void close() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      closed = true;
    }
    clear();
  }
  bool wait_until(std::chrono::steady_clock::time_point end) {
    std::unique_lock<std::mutex> lock(mutex);
    return available.wait_until(lock, end, [this] { return !idle.empty() || total < limits.max; });
  }
  PoolStats account() {
    const std::lock_guard<std::mutex> lock(mutex);
    PoolStats now = stats;
    now.idle = idle.size();
    now.in_use = lent.size();
    return now;
  }

  const PoolHooks<T> hooks;
  const PoolLimits limits;

 private:
  bool made(Nodes& mine) {
    try {
      mine.push_back({hooks.create(), 0});
    } catch (...) {
      lose(mine, nullptr);
      throw;
    }
    return true;
  }
  bool valid(Nodes& mine) {
    try {
      if (!hooks.validate || hooks.validate(*mine.front().object)) return true;
    } catch (...) {
      lose(mine, &PoolStats::invalid);
      throw;
    }
    lose(mine, &PoolStats::invalid);
    return false;
  }
  /// Destroys an object that nobody else sees, or gives up the place of one that was not made.
  void lose(Nodes& mine, std::uint64_t PoolStats::*why) {
    mine.clear();
    {
      const std::lock_guard<std::mutex> lock(mutex);
      --total;
      if (why != nullptr) ++(stats.*why);
    }
    available.notify_one();
  }
  /// Destroys what was dropped, without the lock. Only then is there room for others: `max` counts what exists.
  std::size_t destroy(Nodes& gone) {
    const std::size_t count = gone.size();
    if (count == 0) return 0;
    gone.clear();
    {
      const std::lock_guard<std::mutex> lock(mutex);
      total -= count;
      dropped -= count;
    }
    available.notify_all();
    return count;
  }
  // With the lock; what they take out is for `destroy`, after it.
  void evict_aged(std::uint64_t now, Nodes& gone) {
    if (limits.max_idle_ns == UINT64_MAX) return;
    // Another thread may have put one back since this one looked at the clock.
    const auto aged = [&](const Node& node) {
      return now > node.idle_since && now - node.idle_since > limits.max_idle_ns;
    };
    while (!idle.empty() && may_drop() && aged(idle.front())) drop_oldest(gone, &PoolStats::evicted_age);
  }
  bool may_drop() const { return total - dropped > limits.min; }
  void drop_oldest(Nodes& gone, std::uint64_t PoolStats::*why) {
    gone.splice(gone.end(), idle, idle.begin());
    ++dropped;
    ++(stats.*why);
  }
  void drop_all(Nodes& gone) {
    dropped += idle.size();
    gone.splice(gone.end(), idle);
  }

  std::mutex mutex;
  std::condition_variable available;
  Nodes idle;  // the one used least recently first
  Nodes lent;
  std::size_t total = 0;    // in existence, also those that are just being made or destroyed
  std::size_t dropped = 0;  // of them those that are just being destroyed
  bool closed = false;
  PoolStats stats;
};

}  // namespace vm::mem::alloc
