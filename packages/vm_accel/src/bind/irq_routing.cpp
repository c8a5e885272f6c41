// Msi, IrqPin, GsiRoute: small values.

#include <pybind11/native_enum.h>
#include <pybind11/stl.h>

#include <string>

#include "bind.hpp"
#include "vm/accel/hypervisor/interrupts.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

std::uint32_t word(Unsigned number, const char* what) {
  if (number.value > UINT32_MAX)
    throw vm::InvalidConfig(std::string(what) + " has 32 bits, got " + vm::hex(number.value));
  return static_cast<std::uint32_t>(number.value);
}

std::uint8_t byte(Unsigned number, const char* what) {
  if (number.value > UINT8_MAX)
    throw vm::InvalidConfig(std::string(what) + " is 0 to 255, got " + vm::hex(number.value));
  return static_cast<std::uint8_t>(number.value);
}

std::string repr(const Msi& self) {
  return "Msi(address=" + vm::hex(self.address) + ", data=" + vm::hex(self.data) + ")";
}

std::string repr(IrqPin self) {
  return "IrqPin(" + py::repr(py::cast(self.controller).attr("name")).cast<std::string>() +
         ", pin=" + std::to_string(self.pin) + ")";
}

std::string repr(const GsiRoute& self) {
  return "GsiRoute(gsi=" + std::to_string(self.gsi) +
         ", target=" + std::visit([](const auto& target) { return repr(target); }, self.target) + ")";
}

/// __eq__ and __hash__; `key` gives what the value consists of as a tuple.
template <class T, class Key>
void compares_by_value(py::class_<T>& type, Key key) {
  type.def(
          "__eq__",
          [](const T& self, const py::object& other) -> py::object {
            if (!py::isinstance<T>(other)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
            return py::bool_(self == other.cast<const T&>());
          },
          py::is_operator())
      .def("__hash__", [key](const T& self) { return py::hash(key(self)); })
      .def("__repr__", [](const T& self) { return repr(self); });
}

void bind_enums(py::module_& module) {
  py::native_enum<IrqController>(module, "IrqController", "enum.IntEnum", "A controller with pins.")
      .value("PIC_MASTER", IrqController::pic_master)
      .value("PIC_SLAVE", IrqController::pic_slave)
      .value("IOAPIC", IrqController::ioapic)
      .finalize();
  py::native_enum<MsiDelivery>(module, "MsiDelivery", "enum.IntEnum", "What a local APIC does with a message.")
      .value("FIXED", MsiDelivery::fixed)
      .value("LOWEST_PRIORITY", MsiDelivery::lowest_priority)
      .value("SMI", MsiDelivery::smi)
      .value("NMI", MsiDelivery::nmi)
      .value("INIT", MsiDelivery::init)
      .value("EXTERNAL", MsiDelivery::external)
      .finalize();
  py::native_enum<LineStatus>(module, "LineStatus", "enum.IntEnum",
                              "What became of a change of a line: no route or masked, the one before was not taken "
                              "yet, or delivered.")
      .value("IGNORED", LineStatus::ignored)
      .value("COALESCED", LineStatus::coalesced)
      .value("DELIVERED", LineStatus::delivered)
      .finalize();
}

void bind_msi(py::module_& module) {
  py::class_<Msi> type(module, "Msi", "A message-signalled interrupt: a write of ``data`` to ``address``. Frozen.");
  type.def(py::init([](Unsigned address, Unsigned data) {
             return Msi{address.value, word(data, "the data of a message")};
           }),
           "address"_a, "data"_a)
      .def_static(
          "x86",
          [](Unsigned destination, Unsigned vector, MsiDelivery delivery, bool logical, bool level) {
            return x86_msi(byte(destination, "a destination"), byte(vector, "a vector"), delivery, logical, level);
          },
          "destination"_a, "vector"_a, "delivery"_a = MsiDelivery::fixed, py::kw_only(), "logical"_a = false,
          "level"_a = false,
          "The message that reaches local APICs (Intel SDM vol. 3 §11.11).\n\n"
          "``destination``: an APIC ID, or a set of them when ``logical``; ``level``: it asserts a level-triggered "
          "interrupt.")
      .def_readonly("address", &Msi::address, "Where the message is written.")
      .def_readonly("data", &Msi::data, "32 bits.");
  compares_by_value(type, [](const Msi& self) { return py::make_tuple(self.address, self.data); });
  type.attr("__match_args__") = py::make_tuple("address", "data");
}

void bind_pins(py::module_& module) {
  py::class_<IrqPin> pin(module, "IrqPin", "A pin of a controller. Frozen.");
  pin.def(py::init([](IrqController controller, Unsigned number) {
            return IrqPin{controller, word(number, "a pin")};
          }),
          "controller"_a, "pin"_a)
      .def_readonly("controller", &IrqPin::controller, "Which one.")
      .def_readonly("pin", &IrqPin::pin, "0 to 7 of a PIC, 0 to 23 of the IOAPIC.");
  compares_by_value(pin, [](IrqPin self) { return py::make_tuple(self.controller, self.pin); });
  pin.attr("__match_args__") = py::make_tuple("controller", "pin");

  py::class_<GsiRoute> route(module, "GsiRoute", "Where a global system interrupt goes. Frozen.");
  route
      .def(py::init([](Unsigned gsi, std::variant<IrqPin, Msi> target) {
             return GsiRoute{word(gsi, "a GSI"), target};
           }),
           "gsi"_a, "target"_a)
      .def_readonly("gsi", &GsiRoute::gsi, "Its number.")
      .def_readonly("target", &GsiRoute::target, "An IrqPin or an Msi.");
  compares_by_value(route, [](const GsiRoute& self) { return py::make_tuple(self.gsi, self.target); });
  route.attr("__match_args__") = py::make_tuple("gsi", "target");
}

}  // namespace

void bind_irq_routing(py::module_& module) {
  bind_enums(module);
  bind_msi(module);
  bind_pins(module);
}
