#pragma once
/// \file
/// What the loaders' bindings share.

#include <pybind11/pybind11.h>

#include <functional>
#include <string>

#include "vm/accel/boot/loader.hpp"
#include "vm/python/unsigned.hpp"

/// Reads the files while it holds the GIL where it has to, then calls `load` without it.
vm::accel::boot::LoadedImage load_with(const pybind11::object& image, const std::string& kind,
                                       const std::string& command_line, const pybind11::sequence& modules,
                                       Unsigned flat_address,
                                       const std::function<vm::accel::boot::LoadedImage(
                                           const vm::accel::boot::Image&, const vm::accel::boot::LoadOptions&)>& load);
