#include "mem/alloc/fork_guard.hpp"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "vm/core/error.hpp"

namespace vm::mem::alloc::detail {

/// Never destroyed: allocators may outlive everything else at the end of the process.
struct ForkHandlers {
  std::mutex mutex;
  std::vector<ForkGuard*> guards;

  static ForkHandlers& get() {
    static ForkHandlers& handlers = *new ForkHandlers;
    return handlers;
  }
  ForkHandlers() {
    if (::pthread_atfork(&before, &after, &after) != 0) {
      throw ResourceExhausted("the system has no memory for fork handlers (pthread_atfork)");
    }
  }
  static void before() {
    get().mutex.lock();
    for (ForkGuard* guard : get().guards) guard->lock_();
  }
  static void after() {
    for (ForkGuard* guard : get().guards) guard->unlock_();
    get().mutex.unlock();
  }
};

ForkGuard::ForkGuard(std::function<void()> lock, std::function<void()> unlock)
    : lock_(std::move(lock)), unlock_(std::move(unlock)) {
  ForkHandlers& handlers = ForkHandlers::get();
  const std::lock_guard<std::mutex> guard(handlers.mutex);
  handlers.guards.push_back(this);
}

ForkGuard::~ForkGuard() {
  ForkHandlers& handlers = ForkHandlers::get();
  const std::lock_guard<std::mutex> guard(handlers.mutex);
  handlers.guards.erase(std::find(handlers.guards.begin(), handlers.guards.end(), this));
}

}  // namespace vm::mem::alloc::detail
