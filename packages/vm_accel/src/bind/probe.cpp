// What KVM offers.

#include "vm/accel/kvm/probe.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>

#include "bind.hpp"
#include "vm/accel/backends/backends.hpp"

namespace py = pybind11;

namespace {

py::dict capabilities_of(const vm::accel::KvmInfo& info) {
  py::dict result;
  for (const auto& answer : info.capabilities) result[answer.capability.name] = answer.value;
  return result;
}

py::tuple probe(const std::filesystem::path& path) {
  vm::accel::KvmInfo info;
  {
    const py::gil_scoped_release unlocked;
    info = vm::accel::probe_kvm(path.string());
  }
  return py::make_tuple(info.available, info.reason, info.api_version, capabilities_of(info), info.vcpu_mmap_size);
}

py::list backends() {
  std::vector<vm::accel::BackendInfo> found;
  {
    const py::gil_scoped_release unlocked;
    found = vm::accel::available_backends();
  }
  py::list result;
  for (const vm::accel::BackendInfo& backend : found)
    result.append(py::make_tuple(backend.name, backend.works, backend.reason));
  return result;
}

}  // namespace

void bind_probe(py::module_& module) {
  module.def("probe_kvm", &probe, py::arg("path"),
             "The answers of one probe: available, reason, api_version, capabilities, vcpu_mmap_size.");
  module.def("available_backends", &backends, "Name, whether it works, and why not, of every backend of this build.");
}
