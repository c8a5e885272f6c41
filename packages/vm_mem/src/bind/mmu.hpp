#pragma once
/// \file
/// `Mmu` and `MmuStats`.

#include <pybind11/pybind11.h>

void bind_mmu(pybind11::module_& module);
