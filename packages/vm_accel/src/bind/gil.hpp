#pragma once
/// \file
/// The interpreter's lock in calls that last as long as a guest runs.
///
/// A daemon thread that wants the lock while the interpreter ends is taken down by pthread_exit (before Python 3.14),
/// which unwinds the stack like an exception that nobody may catch: a destructor or `catch (...)` on the way aborts the
/// process. Here such a thread waits for the process to end, as newer Pythons have it.

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <exception>  // says which C++ library this is
#include <optional>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

#if defined(__GLIBCXX__)
// GCC gives the handler a reference to nothing, which UndefinedBehaviorSanitizer would report.
template <class Take>
__attribute__((no_sanitize("null"))) void take_gil_or_wait(Take take) {
  try {
    take();
  } catch (const abi::__forced_unwind&) {
    for (;;) ::pause();
  }
}
#else
template <class Take>
void take_gil_or_wait(Take take) {
  take();
}
#endif

/// Instead of pybind11::gil_scoped_release.
class GilReleased {
 public:
  GilReleased() : state_(PyEval_SaveThread()) {}
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;
  ~GilReleased() {
    take_gil_or_wait([this] { PyEval_RestoreThread(state_); });
  }

 private:
  PyThreadState* state_;
};

/// Instead of pybind11::gil_scoped_acquire.
class GilHeld {
 public:
  GilHeld() {
    take_gil_or_wait([this] { gil_.emplace(); });
  }

 private:
  std::optional<pybind11::gil_scoped_acquire> gil_;
};
