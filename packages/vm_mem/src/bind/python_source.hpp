#pragma once
/// \file
/// A Python callable as the page source of lazy memory.

#include <pybind11/pybind11.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "vm/mem/guest/page_source.hpp"

/// `source(offset, size)` returns `size` bytes. `check` is None, or is called by each thread that is about to wait for
/// the source and raises when that would never end. Call with the GIL.
std::shared_ptr<vm::mem::PageSource> python_source(pybind11::object source, pybind11::object check);

/// `callback(offset, message)` as LazyOptions::on_error; what it raises goes to sys.unraisablehook. With the GIL.
std::function<void(std::uint64_t, const std::string&)> python_on_error(pybind11::object callback);
