#pragma once
/// \file
/// How long a run may take, and what Python's signals do meanwhile.

#include <pybind11/pybind11.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>

#include "vm/accel/hypervisor/vcpu.hpp"
#include "vm/core/error.hpp"

/// Lets Python's signal handlers run while a guest does.
class PythonSignals final : public vm::accel::SignalCheck {
 public:
  void check() override {
    const pybind11::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
  }
  std::chrono::nanoseconds interval() const noexcept override { return std::chrono::milliseconds(200); }
};

/// By hand, because pybind11 would try all conversions twice for an integer.
inline std::optional<std::chrono::nanoseconds> timeout_from(const pybind11::object& timeout) {
  if (timeout.is_none()) return {};
  const double seconds = PyFloat_AsDouble(timeout.ptr());
  if (seconds == -1 && PyErr_Occurred() != nullptr) throw pybind11::error_already_set();
  if (seconds == HUGE_VAL) return {};
  if (!(seconds >= 0))
    throw vm::InvalidConfig("a timeout is a number of seconds from 0 up, got " + std::to_string(seconds));
  constexpr double longest = 9e9;  // seconds whose nanoseconds still fit 64 bits
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(seconds, longest) * 1e9));
}
