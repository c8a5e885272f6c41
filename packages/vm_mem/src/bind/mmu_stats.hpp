#pragma once
/// \file
/// `MmuStats`, `WalkCacheStats`.

#include <pybind11/pybind11.h>

void bind_mmu_stats(pybind11::module_& module);
