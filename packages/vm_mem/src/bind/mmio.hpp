#pragma once
/// \file
/// `MmioManager` and `MmioRange`: devices written in Python behind guest-physical addresses.

#include <pybind11/pybind11.h>

void bind_mmio(pybind11::module_& module);

namespace vm::mem {
class MmioManager;
}

/// For the garbage collector: visits the functions that nobody but `devices` keeps. With the GIL.
int visit_device_functions(const vm::mem::MmioManager& devices, visitproc visit, void* argument);
