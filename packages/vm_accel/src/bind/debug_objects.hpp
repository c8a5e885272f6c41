#pragma once
/// \file
/// What a Debugger hands out.

#include <pybind11/pybind11.h>

#include "exit_object.hpp"
#include "vm/accel/debug/debugger.hpp"

struct StopObject {
  vm::accel::Stop stop;
  pybind11::object exit;
};

void bind_debug_objects(pybind11::module_& module);
