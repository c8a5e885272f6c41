// Hypervisor, and the calls that take everything by argument.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>

#include "bind.hpp"
#include "vm/accel/backends/backends.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

std::string repr(const Hypervisor& self) {
  if (self.closed()) return "<Hypervisor, closed>";
  return "<Hypervisor " + self.name() + ", " + architecture_name(self.architecture()) + ">";
}

}  // namespace

HypervisorType bind_hypervisor(py::module_& module) {
  HypervisorType type(module, "Hypervisor", "The way to virtual machines. Any thread may call anything at once.");
  type.def("create_vm", &Hypervisor::create_vm, WithoutGil(), "Create a virtual machine without memory and vCPUs.")
      .def(
          "create_vcpu", [](const Hypervisor&, const py::object& vm) { return vm.attr("create_vcpu")(); }, "vm"_a,
          "The same as ``vm.create_vcpu()``.")
      .def(
          "map_memory",
          [](const Hypervisor&, const py::object& vm, const py::object& guest_addr, const py::object& memory) {
            return vm.attr("map")(memory, "at"_a = guest_addr);
          },
          "vm"_a, "guest_addr"_a, "memory"_a, "The same as ``vm.map(memory, at=guest_addr)``.")
      .def(
          "run_vcpu",
          [](const Hypervisor&, const py::object& vcpu, const py::object& timeout) {
            return vcpu.attr("run")(timeout);
          },
          "vcpu"_a, "timeout"_a = py::none(), "The same as ``vcpu.run(timeout)``.")
      .def_property_readonly("name", &Hypervisor::name, "\"kvm\" or \"scripted\".")
      .def_property_readonly(
          "architecture", [](const Hypervisor& self) { return architecture_name(self.architecture()); },
          "\"x86_64\", \"aarch64\" or \"riscv64\".")
      .def_property_readonly("max_vcpus", &Hypervisor::max_vcpus, "The most vCPUs that one VM can have.")
      .def("close", &Hypervisor::close, WithoutGil(), "Close the VMs made here, then the hypervisor. Twice is fine.")
      .def_property_readonly("closed", &Hypervisor::closed, "True after ``close``.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__",
           [](Hypervisor& self, const py::args&) {
             const py::gil_scoped_release release;
             self.close();
           })
      .def("__repr__", &repr);
  module.def(
      "create_hypervisor",
      [](const std::optional<std::string>& backend) {
        const py::gil_scoped_release release;
        return create_hypervisor(backend.value_or(std::string()));
      },
      "backend"_a = py::none(),
      "Open the first hypervisor that works here, or the one called ``backend``.\n\n"
      "Raises NotSupported saying why each does not work, InvalidConfig for an unknown name.");
  return type;
}
