#pragma once
/// \file
/// The handshake between the vm_* extension modules. Types, enums and exceptions cross from one to another only when
/// all of them share pybind11's registry and were compiled from the same headers; a mixture would not fail, it would
/// misbehave. So `vm_core._core` publishes its tag as `_abi`, and the others compare theirs before they define
/// anything. For the Python modules only: the C++ libraries never include pybind11.

#include <pybind11/pybind11.h>

#include <string>

namespace vm::python {

/// The library's version and pybind11's own identity of its internals (version, compiler, C++ runtime).
inline std::string abi_tag() { return std::string(VM_VERSION " ") + PYBIND11_INTERNALS_ID; }

/// Called first by every other module: imports `vm_core._core`, so that the shared types and the exception translator
/// exist. Throws ImportError when it was built from another version or with another pybind11.
inline pybind11::module_ import_core() {
  auto core = pybind11::module_::import("vm_core._core");
  const auto theirs = core.attr("_abi").cast<std::string>();
  const auto ours = abi_tag();
  if (theirs != ours) {
    throw pybind11::import_error("vm_core was built as [" + theirs + "], this module as [" + ours +
                                 "]; install vm_core, vm_mem and vm_accel of one version together");
  }
  return core;
}

}  // namespace vm::python
