#pragma once
/// \file
/// The rule for bindings of what can be rebuilt: while a call has given the GIL away, other threads and signal handlers
/// run Python, and must not replace what the call stands on.

#include <optional>

#include "touch.hpp"

/// Lives as long as the call; made and destroyed with the GIL. Specialised for what can be rebuilt.
template <class T>
class InUse {
 public:
  explicit InUse(T&) {}
};

/// A TouchGuard that keeps `T` in use when it gives the GIL away. To be made with the GIL.
template <class T>
class CallGuard {
 public:
  explicit CallGuard(T& callee) {
    const vm::mem::GuestMemory& memory = *callee.memory();
    if (!memory.lazy()) return;
    use_.emplace(callee);
    touching_.emplace(memory);
  }

 private:
  std::optional<InUse<T>> use_;
  std::optional<TouchGuard> touching_;  // takes the GIL back first
};
