#pragma once
/// \file
/// `LevelStats`, `PrefetchStats` and `TlbStats`: what happened in a TLB. C++ code returns `vm::mem::tlb::TlbStats`.

#include <pybind11/pybind11.h>

void bind_tlb_stats(pybind11::module_& module);
