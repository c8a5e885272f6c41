#pragma once
/// \file
/// The owner of lazy pages and of the threads that fill them. Everything that can touch the pages shares it, so the
/// threads never end while somebody could wait for them.

#include <memory>
#include <thread>
#include <vector>

#include "mem/guest/lazy_state.hpp"

namespace vm::mem {

class LazyPages {
 public:
  /// Throws what LazyState throws, ResourceExhausted when the system refuses a thread.
  LazyPages(std::uint64_t size, std::shared_ptr<PageSource> source, const LazyOptions& options);
  LazyPages(const LazyPages&) = delete;
  LazyPages& operator=(const LazyPages&) = delete;
  ~LazyPages();

  LazyState& state() const noexcept { return *state_; }

 private:
  void end_threads() noexcept;

  const std::shared_ptr<LazyState> state_;  // shared with the threads
  std::vector<std::thread> threads_;
};

}  // namespace vm::mem
