#pragma once
/// \file
/// The parts of the `vm_core._core` module; each adds its names to the module that it is given.

#include <pybind11/pybind11.h>

/// Access, Privilege, FaultReason, PageSize and the alignment helpers.
void bind_types(pybind11::module_& module);
/// Counters and CounterSnapshot.
void bind_counters(pybind11::module_& module);
/// Cache, CpuFeatures and FEATURES.
void bind_cpu_features(pybind11::module_& module);
/// NumaNode, Package, Core, Topology and cpu_list; after bind_cpu_features, which binds Cache.
void bind_topology(pybind11::module_& module);
/// The translator from the C++ exception family to the classes of `vm_core.error`.
void bind_errors();
