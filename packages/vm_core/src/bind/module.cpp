// The extension module vm_core._core: convert, call, convert back. What a name means is said where C++ declares it.

#include "bind.hpp"
#include "vm/python/abi.hpp"

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  module.doc() = "Compiled part of vm_core; import the names from vm_core instead.";
  bind_types(module);
  bind_errors();
  bind_counters(module);
  bind_cpu_features(module);
  bind_topology(module);
  module.attr("_abi") = vm::python::abi_tag();
  module.attr("__version__") = VM_VERSION;
}
