#pragma once
/// \file
/// Time limits and signals of calls that run a guest.

#include <pybind11/pybind11.h>

#include <chrono>
#include <optional>

#include "vm/accel/hypervisor/vcpu.hpp"

/// Lets Python's signal handlers run while a guest does.
class PythonSignals final : public vm::accel::SignalCheck {
 public:
  void check() override;
  std::chrono::nanoseconds interval() const noexcept override { return std::chrono::milliseconds(200); }
};

/// Seconds; None and infinity: no limit. With the GIL. Throws InvalidConfig for what is no time, TypeError.
std::optional<std::chrono::nanoseconds> timeout_from(const pybind11::object& timeout);
