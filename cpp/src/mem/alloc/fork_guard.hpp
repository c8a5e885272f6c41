#pragma once
/// \file
/// Locks that no other thread may hold in the moment of a fork, because nobody would unlock them in the child.

#include <functional>

namespace vm::mem::alloc::detail {

/// As long as it lives, fork() calls `lock` before and `unlock` after, in parent and child. The list behind it belongs
/// to the process, as pthread_atfork(3) does; it holds nothing but these functions.
class ForkGuard {
 public:
  /// \throws ResourceExhausted when the system cannot remember the handlers. \throws std::bad_alloc
  ForkGuard(std::function<void()> lock, std::function<void()> unlock);
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;
  ~ForkGuard();

 private:
  friend struct ForkHandlers;
  std::function<void()> lock_;
  std::function<void()> unlock_;
};

}  // namespace vm::mem::alloc::detail
