#pragma once
/// \file
/// One slot of an object for each thread that uses it, found without a lock. Threads and objects may go in any order:
/// a thread that ends gives its slots back, an object that goes destroys those that it still has.

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

// Inside a shared library the default is a function call for each look at a thread_local variable. glibc keeps room for
// the few bytes of libraries that are loaded later; musl does not.
#if defined(__GLIBC__)
#define VM_INITIAL_EXEC [[gnu::tls_model("initial-exec")]]
#else
#define VM_INITIAL_EXEC
#endif

namespace vm::detail {

/// What a thread and an object both hold on to. Its address names the object in the threads' tables, and is not used
/// again as long as one of them remembers it.
template <class Slot>
class SlotRegistry {
 public:
  /// Takes a slot in; nullptr when the object is gone.
  Slot* adopt(std::unique_ptr<Slot> slot) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return nullptr;
    slots_.push_back(std::move(slot));
    return slots_.back().get();
  }
  void release(const Slot* slot) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(slots_.begin(), slots_.end(), [&](const auto& own) { return own.get() == slot; });
    if (found == slots_.end()) return;  // the object went first, and took it along
    std::swap(*found, slots_.back());
    slots_.pop_back();
  }
  void close() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    slots_.clear();
  }
  bool closed() const noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    return closed_;
  }
  template <class Visit>
  void for_each(Visit&& visit) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& slot : slots_) visit(*slot);
  }
  std::mutex& mutex() const noexcept { return mutex_; }

 private:
  mutable std::mutex mutex_;
  bool closed_ = false;
  std::vector<std::unique_ptr<Slot>> slots_;
};

/// A slot for as long as the handle lives. The object may go first; the handle must not be used after that.
template <class Slot>
class SlotHandle {
 public:
  SlotHandle(std::shared_ptr<SlotRegistry<Slot>> registry, std::unique_ptr<Slot> slot)
      : registry_(std::move(registry)), slot_(registry_->adopt(std::move(slot))) {}
  SlotHandle(SlotHandle&& other) noexcept
      : registry_(std::move(other.registry_)), slot_(std::exchange(other.slot_, nullptr)) {}
  SlotHandle& operator=(SlotHandle&& other) noexcept {
    std::swap(registry_, other.registry_);
    std::swap(slot_, other.slot_);
    return *this;
  }
  SlotHandle(const SlotHandle&) = delete;
  SlotHandle& operator=(const SlotHandle&) = delete;
  ~SlotHandle() {
    if (registry_ != nullptr) registry_->release(slot_);
  }

  Slot* get() const noexcept { return slot_; }
  const SlotRegistry<Slot>& registry() const noexcept { return *registry_; }

 private:
  std::shared_ptr<SlotRegistry<Slot>> registry_;
  Slot* slot_;
};

/// The object's side. All members may be called concurrently.
template <class Slot>
class PerThread {
 public:
  PerThread() : registry_(std::make_shared<SlotRegistry<Slot>>()) {}
  PerThread(const PerThread&) = delete;
  PerThread& operator=(const PerThread&) = delete;
  ~PerThread() { registry_->close(); }

  /// The calling thread's slot; `make()` gives a unique_ptr to a new one on the thread's first call. nullptr when there
  /// is no memory for it, or the thread has come so far in ending that it can keep nothing.
  template <class Make>
  Slot* mine(const Make& make) noexcept {
    if (ended) return nullptr;
    try {
      auto found = thread.handles.find(registry_.get());
      if (found == thread.handles.end()) {
        if (thread.handles.size() >= thread.sweep_at) thread.sweep();
        found = thread.handles.emplace(registry_.get(), handle(make())).first;
      }
      Slot* const slot = found->second.get();
      if (slot != nullptr) last = {registry_.get(), slot};
      return slot;
    } catch (...) {
      return nullptr;  // no memory: the caller has a way without a slot
    }
  }
  /// The slot that `mine` gave this thread, when this is the object that the thread last called it for; else nullptr.
  Slot* known() const noexcept {
    if (last.registry != registry_.get()) return nullptr;
    if (last.slot == nullptr) __builtin_unreachable();  // saves callers from asking again
    return last.slot;
  }

  /// A slot of its own, whatever the thread.
  SlotHandle<Slot> handle(std::unique_ptr<Slot> slot) const { return {registry_, std::move(slot)}; }

  template <class Visit>
  void for_each(Visit&& visit) const {
    registry_->for_each(visit);
  }
  /// While it is held no slot comes or goes: for who is about to fork.
  std::mutex& mutex() const noexcept { return registry_->mutex(); }

 private:
  using Handles = std::unordered_map<const SlotRegistry<Slot>*, SlotHandle<Slot>>;
  struct Thread {
    Handles handles;
    std::size_t sweep_at = 16;

    ~Thread() {
      last = {};
      ended = true;
    }
    // Otherwise a thread that outlives many objects would collect their remains.
    void sweep() {
      last = {};
      for (auto entry = handles.begin(); entry != handles.end();)
        entry = entry->first->closed() ? handles.erase(entry) : std::next(entry);
      sweep_at = std::max<std::size_t>(16, 2 * handles.size());
    }
  };

  struct Last {
    const SlotRegistry<Slot>* registry = nullptr;
    Slot* slot = nullptr;
  };

  static inline thread_local Thread thread;
  // These have no destructor, so that they can be read until the very end of the thread, after `thread` is gone.
  VM_INITIAL_EXEC static inline thread_local Last last = {};
  static inline thread_local bool ended = false;

  std::shared_ptr<SlotRegistry<Slot>> registry_;
};

}  // namespace vm::detail

#undef VM_INITIAL_EXEC
