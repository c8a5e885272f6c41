#include "mem/guest/lazy_pages.hpp"

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

/// Reports read at once: a lone thread sees together what it will handle one after the other, several threads take one
/// each so that none waits behind another's source.
constexpr std::size_t lone_batch = 16;

void serve(const std::shared_ptr<LazyState>& state) {
  std::vector<FaultMessage> messages;
  std::vector<std::byte> buffer;
  const std::size_t batch = state->options().threads == 1 ? lone_batch : 1;
  while (state->userfault().wait(messages, batch)) {
    for (const FaultMessage& message : messages) state->handle(message, buffer);
    messages.clear();
  }
}

/// Threads started meanwhile get no signals: those are for threads of the application.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace

LazyPages::LazyPages(std::uint64_t size, std::shared_ptr<PageSource> source, const LazyOptions& options)
    : state_(std::make_shared<LazyState>(size, std::move(source), options)) {
  const SignalsBlocked blocked;
  try {
    for (unsigned i = 0; i < options.threads; ++i) threads_.emplace_back([state = state_] { serve(state); });
  } catch (const std::system_error& error) {
    end_threads();
    throw ResourceExhausted("the system refuses thread " + std::to_string(threads_.size() + 1) + " of " +
                            std::to_string(options.threads) + " for lazy memory: " + error.what());
  }
}

LazyPages::~LazyPages() { end_threads(); }

void LazyPages::end_threads() noexcept {
  state_->userfault().stop();
  try {
    const auto unlocked = state_->source().before_wait();
    for (std::thread& thread : threads_) {
      // A source can hold the last reference. What the thread still uses is its own share of the state.
      if (thread.get_id() == std::this_thread::get_id()) {
        thread.detach();
      } else {
        thread.join();
      }
    }
  } catch (const std::exception&) {
    // A source may be waiting for this very thread, so the threads end later, on their own.
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.detach();
    }
  }
}

}  // namespace vm::mem
