#pragma once
/// \file
/// A cache as a dict, for the as_dict of CpuFeatures and of Topology.

#include <pybind11/pybind11.h>

#include "vm/core/cache.hpp"

pybind11::dict cache_as_dict(const vm::Cache& cache);
