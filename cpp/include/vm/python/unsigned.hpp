#pragma once
/// \file
/// Addresses and sizes as Python gives them: any integer (NumPy's too), and one that does not fit 64 bits without a
/// sign is InvalidConfig instead of pybind11's TypeError about overloads.

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "vm/core/error.hpp"

struct Unsigned {
  std::uint64_t value = 0;
};

namespace pybind11::detail {

template <>
struct type_caster<Unsigned> {
  PYBIND11_TYPE_CASTER(Unsigned, const_name("int"));

  bool load(handle source, bool) {
    if (!source || PyFloat_Check(source.ptr())) return false;
    const object number = reinterpret_steal<object>(PyNumber_Index(source.ptr()));
    if (!number) {
      PyErr_Clear();
      return false;
    }
    value.value = PyLong_AsUnsignedLongLong(number.ptr());
    if (value.value != UINT64_MAX || PyErr_Occurred() == nullptr) return true;
    PyErr_Clear();
    throw vm::InvalidConfig("addresses and sizes are whole numbers from 0 to 2**64 - 1, got " +
                            str(number).cast<std::string>());
  }

  static handle cast(Unsigned source, return_value_policy, handle) { return PyLong_FromUnsignedLongLong(source.value); }
};

}  // namespace pybind11::detail
