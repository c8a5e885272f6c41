// Vm: memory and processors.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bind.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

std::vector<MemorySlot> map(Vm& self, const vm::mem::GuestMemory& memory, const std::optional<Unsigned>& at,
                            bool read_only, bool log_dirty) {
  const py::gil_scoped_release release;
  std::optional<std::uint64_t> base;
  if (at) base = at->value;
  return self.map(memory, {read_only, log_dirty}, base);
}

std::string repr(const Vm& self) {
  if (self.closed()) return "<Vm, closed>";
  std::uint64_t bytes = 0;
  const std::vector<MemorySlot> slots = self.slots();
  for (const MemorySlot& slot : slots) bytes += slot.size;
  const std::size_t vcpus = self.vcpus().size();
  return "<Vm " + std::string(architecture_name(self.architecture())) + ": " + std::to_string(bytes >> 10) +
         " KiB in " + std::to_string(slots.size()) + (slots.size() == 1 ? " slot, " : " slots, ") +
         std::to_string(vcpus) + (vcpus == 1 ? " vCPU>" : " vCPUs>");
}

void bind_memory(VmType& type) {
  type.def("map", &map, "memory"_a, py::kw_only(), "at"_a = py::none(), "read_only"_a = false, "log_dirty"_a = false,
           "Show the regions that ``memory`` (a vm_mem.GuestMemory) has now to the guest, without copying.\n\n"
           "They appear at their own addresses, or moved together so that the lowest begins at ``at``. The VM keeps "
           "the host memory alive; closing ``memory`` takes nothing away. Returns the new slots. Raises InvalidConfig "
           "on an overlap or on regions that are not whole pages, ResourceExhausted; then nothing was mapped.")
      .def(
          "unmap",
          [](Vm& self, Unsigned base) {
            const py::gil_scoped_release release;
            self.unmap(base.value);
          },
          "base"_a, "Take away the slot that begins at ``base``. Raises OutOfRange.")
      .def(
          "move",
          [](Vm& self, Unsigned base, Unsigned to) {
            const py::gil_scoped_release release;
            self.move(base.value, to.value);
          },
          "base"_a, "to"_a, "Let the slot at ``base`` begin at ``to``. Raises OutOfRange, InvalidConfig on an overlap.")
      .def(
          "set_flags",
          [](Vm& self, Unsigned base, bool read_only, bool log_dirty) {
            const py::gil_scoped_release release;
            self.set_flags(base.value, {read_only, log_dirty});
          },
          "base"_a, py::kw_only(), "read_only"_a, "log_dirty"_a,
          "Change how the guest sees the slot at ``base``. Raises OutOfRange, InvalidConfig.")
      .def_property_readonly("slots", &Vm::slots, "The memory slots, by address.")
      .def_property_readonly("memory", &Vm::memory,
                             "A vm_mem.GuestMemory over the slots of this moment, to read and write what the guest "
                             "sees.");
}

}  // namespace

VmType bind_vm(py::module_& module) {
  VmType type(module, "Vm", "One virtual machine. Any thread may call anything at once.");
  bind_memory(type);
  type.def(
          "create_vcpu",
          [](Vm& self, const std::optional<unsigned>& id) {
            const py::gil_scoped_release release;
            return self.create_vcpu(id);
          },
          "id"_a = py::none(),
          "Create a processor that belongs to the calling thread.\n\n"
          "``id``: its number; absent, the lowest that no vCPU of this VM had. The number of a parked vCPU brings that "
          "one back, with the registers it had. Others may run meanwhile. Raises InvalidConfig when the number was "
          "given before, PlatformError when the hypervisor refuses it.")
      .def_property_readonly("vcpus", &Vm::vcpus, "The processors that are not closed, by id.")
      .def_property_readonly(
          "architecture", [](const Vm& self) { return architecture_name(self.architecture()); },
          "\"x86_64\", \"aarch64\" or \"riscv64\".")
      .def("close", &Vm::close, WithoutGil(), "Close the vCPUs, then the VM. Twice is fine.")
      .def_property_readonly("closed", &Vm::closed, "True after ``close``.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__",
           [](Vm& self, const py::args&) {
             const py::gil_scoped_release release;
             self.close();
           })
      .def("__repr__", &repr);
  return type;
}
