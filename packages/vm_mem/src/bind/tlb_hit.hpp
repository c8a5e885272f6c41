#pragma once
/// \file
/// `TlbHit`, the answer of one look-up.

#include <pybind11/pybind11.h>

void bind_tlb_hit(pybind11::module_& module);
