#pragma once
/// \file
/// The rule for bindings whose C++ touches guest memory: if it is lazy, its page source may be Python, so the GIL must
/// be free while a touch waits, and a thread that the source itself waits for must not touch at all.

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <vector>

#include "vm/mem/guest/memory.hpp"

/// Lives as long as the touches. Costs a load and a branch where the memory is not lazy. With or without the GIL.
/// Raises what PageSource::before_wait raises, ClosedError.
class TouchGuard {
 public:
  explicit TouchGuard(const vm::mem::GuestMemory& memory) {
    if (memory.lazy()) begin(memory);
  }

 private:
  void begin(const vm::mem::GuestMemory& memory) {
    waits_ = memory.table()->before_wait();
    if (PyGILState_Check() != 0) release_.emplace();
  }

  std::vector<std::shared_ptr<void>> waits_;
  std::optional<pybind11::gil_scoped_release> release_;
};
