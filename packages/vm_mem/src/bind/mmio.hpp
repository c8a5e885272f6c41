#pragma once
/// \file
/// `MmioManager` and `MmioRange`: devices written in Python behind guest-physical addresses.

#include <pybind11/pybind11.h>

void bind_mmio(pybind11::module_& module);
