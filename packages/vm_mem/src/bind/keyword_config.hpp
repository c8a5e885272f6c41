#pragma once
/// \file
/// What configurations made of keyword arguments have in common. `Arguments<Config>` says which ones make an equal
/// object.

#include <pybind11/operators.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <limits>
#include <string>
#include <utility>

#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

/// `number` as the narrower `T`. Throws InvalidConfig naming the argument when it does not fit.
template <class T>
T narrow(Unsigned number, const char* name) {
  if (number.value > std::numeric_limits<T>::max())
    throw vm::InvalidConfig(std::string(name) + " is " + std::to_string(number.value) + "; it is at most " +
                            std::to_string(std::numeric_limits<T>::max()));
  return static_cast<T>(number.value);
}

template <class Config>
using Arguments = pybind11::dict (*)(const Config&);

template <class Config>
std::string keyword_repr(const char* type, Arguments<Config> arguments, const Config& config) {
  std::string text = std::string(type) + "(";
  const pybind11::dict fields = arguments(config);
  for (const std::pair<pybind11::handle, pybind11::handle> item : fields) {
    if (text.back() != '(') text += ", ";
    text += item.first.cast<std::string>() + "=" + pybind11::repr(item.second).cast<std::string>();
  }
  return text + ")";
}

/// Adds repr, comparison, hash and pickling.
template <class Config>
void add_keyword_config(pybind11::class_<Config>& type, const char* name, Arguments<Config> arguments) {
  type.def("__repr__", [=](const Config& self) { return keyword_repr(name, arguments, self); })
      .def(
          "__eq__", [=](const Config& a, const Config& b) { return arguments(a).equal(arguments(b)); },
          pybind11::is_operator())
      .def("__hash__",
           [=](const Config& self) { return pybind11::hash(pybind11::str(keyword_repr(name, arguments, self))); })
      .def("__reduce__", [=](const pybind11::object& self) {
        const pybind11::object partial = pybind11::module_::import("functools").attr("partial");
        return pybind11::make_tuple(partial(pybind11::type::of(self), **arguments(self.cast<const Config&>())),
                                    pybind11::tuple());
      });
}
