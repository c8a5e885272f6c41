// The extension module vm_accel._accel: convert, call, convert back. What a name means is said where C++ declares it.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>

#include "vm/accel/kvm/probe.hpp"
#include "vm/python/abi.hpp"

namespace py = pybind11;

namespace {

py::dict capabilities_of(const vm::accel::KvmInfo& info) {
  py::dict result;
  for (const auto& answer : info.capabilities) result[answer.capability.name] = answer.value;
  return result;
}

}  // namespace

PYBIND11_MODULE(_accel, module, py::mod_gil_not_used()) {
  vm::python::import_core();
  module.doc() = "Compiled part of vm_accel; import the names from vm_accel instead.";
  module.attr("__version__") = VM_VERSION;
  module.def(
      "probe_kvm",
      [](const std::filesystem::path& path) {
        vm::accel::KvmInfo info;
        {
          const py::gil_scoped_release unlocked;
          info = vm::accel::probe_kvm(path.string());
        }
        return py::make_tuple(info.available, info.reason, info.api_version, capabilities_of(info),
                              info.vcpu_mmap_size);
      },
      py::arg("path"), "The answers of one probe: available, reason, api_version, capabilities, vcpu_mmap_size.");
}
