#pragma once
/// \file
/// What Python hands to the `translate` methods.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "vm/mem/paging/address_space.hpp"

/// One address. Throws InvalidConfig for an integer that is none.
std::uint64_t address_from(PyObject* number);

/// A contiguous uint64 array of the same shape, without a copy when it already is one.
pybind11::array_t<std::uint64_t> addresses_from(const pybind11::object& object);

/// True while no signal handler has raised. Called from work that released the GIL.
bool no_signal_pending();

/// Arguments of `translate` after the address.
struct TranslateArguments {
  vm::mem::paging::BatchRequest request;

  void set(PyObject* name, PyObject* value);
};
