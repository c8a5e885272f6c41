#pragma once
/// \file
/// The end of a run loop as a Python object.

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <vector>

#include "vm/accel/devices/run_loop.hpp"

struct LoopObject {
  std::optional<vm::accel::StopReason> stop;
  unsigned vcpu = 0;
  pybind11::object exit;
};

/// `vcpus`: those that ran. With the GIL.
LoopObject loop_object(const vm::accel::LoopResult& result, const std::vector<std::shared_ptr<vm::accel::Vcpu>>& vcpus);
