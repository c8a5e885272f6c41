// Msrs: the model-specific registers of a vCPU as a mapping.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

struct Msrs {
  std::shared_ptr<Vcpu> vcpu;
};

std::uint32_t index_of(const py::handle& key) {
  if (py::isinstance<py::str>(key)) return msr_index(key.cast<std::string>());
  if (PyIndex_Check(key.ptr()) == 0)
    throw py::type_error("a model-specific register is a name or a number, not " + py::repr(key).cast<std::string>());
  const std::uint64_t number = key.cast<Unsigned>().value;
  if (number > UINT32_MAX)
    throw vm::InvalidConfig("numbers of model-specific registers have 32 bits, got " + vm::hex(number));
  return static_cast<std::uint32_t>(number);
}

std::vector<X86Msr> read(const Msrs& self, const std::vector<std::uint32_t>& indices) {
  const py::gil_scoped_release release;
  return self.vcpu->x86()->msrs(indices);
}

py::dict read_many(const Msrs& self, const py::iterable& keys) {
  std::vector<std::uint32_t> indices;
  for (const py::handle& key : keys) indices.push_back(index_of(key));
  py::dict result;
  for (const X86Msr& msr : read(self, indices)) result[py::int_(msr.index)] = msr.value;
  return result;
}

void write(const Msrs& self, const std::vector<X86Msr>& msrs) {
  const py::gil_scoped_release release;
  self.vcpu->x86()->set_msrs(msrs);
}

void write_many(const Msrs& self, const py::dict& values) {
  std::vector<X86Msr> msrs;
  for (const auto& [key, value] : values) msrs.push_back({index_of(key), value.cast<Unsigned>().value});
  write(self, msrs);
}

}  // namespace

void bind_x86_msrs(py::module_& module) {
  py::class_<Msrs>(module, "Msrs",
                   "The model-specific registers of a vCPU, by number or name: ``vcpu.msrs[\"EFER\"]``, "
                   "``vcpu.msrs[0xC0000080] = value``.")
      .def(
          "__getitem__",
          [](const Msrs& self, const py::object& key) { return read(self, {index_of(key)}).front().value; }, "key"_a)
      .def(
          "__setitem__",
          [](const Msrs& self, const py::object& key, Unsigned value) {
            write(self, {{index_of(key), value.value}});
          },
          "key"_a, "value"_a)
      .def("read", &read_many, "keys"_a,
           "Many at once: {number: value}. Raises PlatformError that names the first one that cannot be read.")
      .def("update", &write_many, "values"_a,
           "Write many at once, in the order of the dict. Raises PlatformError that names the first one that is "
           "refused; those before it are written by then.")
      .def("__repr__", [](const Msrs& self) { return "<Msrs of vCPU " + std::to_string(self.vcpu->id()) + ">"; });
  module.def(
      "msr_names",
      [] {
        py::dict names;
        for (const MsrName& known : msr_names()) names[known.name] = known.index;
        return names;
      },
      "The model-specific registers that have a name: {name: number}.");
  module.def("msr_name", &msr_name, "index"_a, "\"EFER\" for 0xC0000080; the number in hex for one without a name.");
}

void add_x86_msrs(VcpuType& type) {
  type.def_property_readonly(
      "msrs", [](std::shared_ptr<Vcpu> self) { return Msrs{std::move(self)}; },
      "The model-specific registers (Msrs), by number or name.");
}
