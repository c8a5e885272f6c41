// MemorySlot.

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "bind.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using vm::accel::MemorySlot;

namespace {

std::string repr(const MemorySlot& self) {
  return "<MemorySlot " + std::to_string(self.id) + ": " + vm::hex(self.base) + "-" + vm::hex(self.last()) +
         (self.flags.read_only ? ", read-only" : "") + (self.flags.log_dirty ? ", dirty pages logged" : "") + ">";
}

}  // namespace

void bind_slots(py::module_& module) {
  py::class_<MemorySlot>(module, "MemorySlot", "A run of guest-physical addresses that a VM sees as memory. A copy.")
      .def_readonly("id", &MemorySlot::id, "The hypervisor's number of the slot.")
      .def_readonly("base", &MemorySlot::base, "First guest-physical address.")
      .def_readonly("size", &MemorySlot::size, "Bytes.")
      .def_property_readonly(
          "host_address", [](const MemorySlot& self) { return reinterpret_cast<std::uintptr_t>(self.host); },
          "Where the memory begins in this process.")
      .def_readonly("name", &MemorySlot::name, "What the memory is made of: \"anonymous\", \"memfd\", a file's path.")
      .def_property_readonly(
          "read_only", [](const MemorySlot& self) { return self.flags.read_only; },
          "Guest writes become MmioWrite exits.")
      .def_property_readonly(
          "log_dirty", [](const MemorySlot& self) { return self.flags.log_dirty; },
          "The hypervisor notes which pages the guest writes.")
      .def("__repr__", &repr);
}
