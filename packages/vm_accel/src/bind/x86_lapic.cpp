// X86Lapic: each register an attribute.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "bind.hpp"
#include "text.hpp"
#include "vm/accel/hypervisor/x86_state.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

py::tuple vectors(const X86Lapic& self, std::uint32_t set) { return py::tuple(py::cast(self.vectors(set))); }

std::string repr(const X86Lapic& self) {
  return "<X86Lapic" + hex_field("id", self.read(0x20) >> 24) + hex_field("tpr", self.read(0x80)) +
         hex_field("svr", self.read(0xF0)) + ", in service " + std::to_string(self.vectors(X86Lapic::isr).size()) +
         ", requested " + std::to_string(self.vectors(X86Lapic::irr).size()) + ">";
}

}  // namespace

void bind_x86_lapic(py::module_& module) {
  py::class_<X86Lapic> type(module, "X86Lapic",
                            "The registers of a local APIC (Intel SDM vol. 3 §11.4.1). A copy: assign it to "
                            "``vcpu.lapic``.");
  type.def(py::init<>())
      .def("read", &X86Lapic::read, "offset"_a, "The 32 bits at a multiple of 16. Raises OutOfRange.")
      .def("write", &X86Lapic::write, "offset"_a, "value"_a, "Change the 32 bits at a multiple of 16.")
      .def_property_readonly(
          "isr", [](const X86Lapic& self) { return vectors(self, X86Lapic::isr); }, "Vectors in service.")
      .def_property_readonly(
          "tmr", [](const X86Lapic& self) { return vectors(self, X86Lapic::tmr); }, "Level-triggered vectors.")
      .def_property_readonly(
          "irr", [](const X86Lapic& self) { return vectors(self, X86Lapic::irr); }, "Vectors requested.")
      .def_property_readonly(
          "page",
          [](const py::object& self) {
            auto& lapic = self.cast<X86Lapic&>();
            return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(X86Lapic::size), lapic.page.data(), self);
          },
          "All 1024 bytes: a view, uint8.")
      .def("__repr__", &repr);
  for (const LapicRegister& known : lapic_registers()) {
    type.def_property(
        known.name, [offset = known.offset](const X86Lapic& self) { return self.read(offset); },
        [offset = known.offset](X86Lapic& self, std::uint32_t value) { self.write(offset, value); });
  }
}
