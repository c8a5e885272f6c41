#pragma once
/// \file
/// `TlbConfig`, `LevelConfig` and `ArrayConfig`: the shapes of `vm_mem.tlb`. C++ code takes and returns them as they
/// are: `const vm::mem::tlb::TlbConfig&` converts.

#include <pybind11/pybind11.h>

#include "vm/mem/tlb/config.hpp"

void bind_tlb_config(pybind11::module_& module);

/// log2 of a page size in bytes. Throws InvalidConfig for what no page has.
std::uint8_t page_size_log2(std::uint64_t bytes);
