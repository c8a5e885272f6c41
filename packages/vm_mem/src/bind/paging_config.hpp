#pragma once
/// \file
/// `X86`, `RiscV` and `AArch64`: the configurations of `vm_mem.paging`.

#include <pybind11/pybind11.h>

#include <optional>

#include "vm/mem/paging/config.hpp"
#include "vm/mem/paging/mapping.hpp"

void bind_paging_config(pybind11::module_& module);

/// The configuration held by one of the three Python objects. Throws TypeError for anything else.
vm::mem::paging::PagingConfig paging_config_from(const pybind11::object& object);
pybind11::object paging_config_to_python(const vm::mem::paging::PagingConfig& config);

/// Where new tables come from: a Python range or None.
std::optional<vm::mem::paging::TableRange> tables_from(const pybind11::object& tables);
pybind11::object tables_to_python(const std::optional<vm::mem::paging::TableRange>& tables);
