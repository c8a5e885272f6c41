#pragma once
/// \file
/// An event as Python holds it: what it names can be let go of.

#include <pybind11/pybind11.h>

#include <memory>
#include <mutex>
#include <utility>

#include "vm/accel/hypervisor/event_fd.hpp"

/// Any thread. A VM that the event is attached to shares it, so that closing here takes nothing away there.
class PyEvent {
 public:
  explicit PyEvent(std::shared_ptr<vm::accel::EventFd> event) noexcept : event_(std::move(event)) {}

  /// Throws ClosedError.
  std::shared_ptr<vm::accel::EventFd> get() const;
  void close() noexcept;
  bool closed() const;

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<vm::accel::EventFd> event_;
};

using EventType = pybind11::class_<PyEvent, pybind11::smart_holder>;
