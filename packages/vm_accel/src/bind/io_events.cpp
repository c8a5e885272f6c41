// IoEvents: what `vm.io_events` is.

#include "vm/accel/hypervisor/io_events.hpp"

#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "event_fd.hpp"
#include "exit_object.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;
using Number = std::optional<Unsigned>;

namespace {

/// The VM, seen from the accesses that end in the hypervisor.
struct VmIoEvents {
  std::shared_ptr<Vm> vm;

  std::shared_ptr<IoEvents> facet() const { return vm->io_events(); }
};

std::pair<IoSpace, std::uint64_t> place(const Number& port, const Number& paddr) {
  if (port.has_value() == paddr.has_value()) throw vm::InvalidConfig("say one of port= and paddr=");
  return port ? std::pair(IoSpace::port, port->value) : std::pair(IoSpace::memory, paddr->value);
}

IoEvent event_at(const Number& port, const Number& paddr, Unsigned size, const Number& match) {
  const auto [space, address] = place(port, paddr);
  IoEvent event{space, address, static_cast<std::uint8_t>(std::min<std::uint64_t>(size.value, 255)), {}};
  if (match) event.match = match->value;
  check_io_event(event);
  return event;
}

CoalescedZone zone_at(const Number& port, const Number& paddr, Unsigned size) {
  const auto [space, address] = place(port, paddr);
  const CoalescedZone zone{space, address, static_cast<std::uint32_t>(std::min<std::uint64_t>(size.value, UINT32_MAX))};
  check_zone(zone);
  return zone;
}

/// The exit that the write would have been.
py::object exit_of(const CoalescedWrite& write) {
  const py::bytes data(reinterpret_cast<const char*>(write.data.data()), write.size);
  if (write.space == IoSpace::memory) return py::type::of<ExitObject<MmioWrite>>()(write.address, data);
  return py::type::of<ExitObject<IoOut>>()(write.address, data, write.size);
}

py::list collect(const VmIoEvents& self) {
  std::vector<CoalescedWrite> writes;
  {
    const py::gil_scoped_release release;
    writes = self.facet()->collect();
  }
  py::list exits;
  for (const CoalescedWrite& write : writes) exits.append(exit_of(write));
  return exits;
}

template <class T>
std::optional<std::uint64_t> address_in(const T& self, IoSpace space) {
  if (self.space != space) return {};
  return self.address;
}

template <class T>
py::class_<T> place_type(py::module_& module, const char* name, const char* doc) {
  py::class_<T> type(module, name, doc);
  type.def_property_readonly(
          "port", [](const T& self) { return address_in(self, IoSpace::port); }, "The port, or None.")
      .def_property_readonly(
          "paddr", [](const T& self) { return address_in(self, IoSpace::memory); },
          "The guest-physical address, or None.")
      .def(
          "__eq__",
          [](const T& self, const py::object& other) -> py::object {
            if (!py::isinstance<T>(other)) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
            return py::bool_(self == other.cast<const T&>());
          },
          py::is_operator())
      .def("__hash__", [](const T& self) {
        return py::hash(py::make_tuple(static_cast<int>(self.space), self.address, self.size));
      });
  return type;
}

void bind_places(py::module_& module) {
  place_type<IoEvent>(module, "IoEvent", "The writes of a guest that ring a bell. Frozen.")
      .def_readonly("size", &IoEvent::size, "Bytes: 1, 2, 4 or 8; 0: any.")
      .def_readonly("match", &IoEvent::match, "Only this value, or None.")
      .def("__repr__", [](const IoEvent& self) { return "<IoEvent " + io_event_text(self) + ">"; });
  place_type<CoalescedZone>(module, "CoalescedZone", "Addresses whose writes wait. Frozen.")
      .def_readonly("size", &CoalescedZone::size, "Bytes.")
      .def("__repr__", [](const CoalescedZone& self) {
        return "<CoalescedZone " + std::string(io_space_name(self.space)) + " " + vm::hex(self.address) + ", " +
               std::to_string(self.size) + " bytes>";
      });
}

}  // namespace

void bind_io_events(py::module_& module) {
  bind_places(module);
  py::class_<VmIoEvents>(
      module, "IoEvents",
      "Guest accesses that end in the hypervisor instead of an exit. Any thread may call anything at "
      "once. Raises NotSupported naming the capability where the hypervisor lacks one.")
      .def(
          "attach",
          [](const VmIoEvents& self, const PyEvent& event, const Number& port, const Number& paddr, Unsigned size,
             const Number& match) {
            const IoEvent what = event_at(port, paddr, size, match);
            self.facet()->attach(what, event.get());
            return what;
          },
          WithoutGil(), "event"_a, py::kw_only(), "port"_a = py::none(), "paddr"_a = py::none(), "size"_a = Unsigned{0},
          "match"_a = py::none(),
          "Let a write of the guest to ``port`` or ``paddr`` add 1 to ``event`` (an ioeventfd); the guest goes on.\n\n"
          "``size``: 1, 2, 4 or 8 bytes, 0 for any; ``match``: only this value. Returns an IoEvent for ``detach``. "
          "Raises InvalidConfig for a write that cannot be, and when another event is there.")
      .def(
          "detach", [](const VmIoEvents& self, const IoEvent& what) { self.facet()->detach(what); }, WithoutGil(),
          "what"_a, "Let these writes exit again. Raises InvalidConfig when nothing is attached to them.")
      .def_property_readonly(
          "attached", [](const VmIoEvents& self) { return self.facet()->attached(); }, "The IoEvents that ring.")
      .def(
          "coalesce",
          [](const VmIoEvents& self, const Number& port, const Number& paddr, Unsigned size) {
            const CoalescedZone zone = zone_at(port, paddr, size);
            self.facet()->coalesce(zone);
            return zone;
          },
          WithoutGil(), py::kw_only(), "port"_a = py::none(), "paddr"_a = py::none(), "size"_a,
          "Let writes to ``size`` bytes from ``port`` or ``paddr`` on wait in a ring, exiting only when it is full.\n\n"
          "Returns a CoalescedZone for ``stop_coalescing``. Raises InvalidConfig, also for zones that overlap.")
      .def(
          "stop_coalescing",
          [](const VmIoEvents& self, const CoalescedZone& zone) { self.facet()->stop_coalescing(zone); }, WithoutGil(),
          "zone"_a, "End that; what waits still waits. Raises InvalidConfig when there is no such zone.")
      .def_property_readonly(
          "zones", [](const VmIoEvents& self) { return self.facet()->zones(); }, "The CoalescedZones.")
      .def("collect", &collect,
           "Take the writes that wait, as the MmioWrite and IoOut that they would have been, in the guest's order.\n\n"
           "To be called before any other exit is handled, which the guest made after them.");
}

void add_io_events(VmType& type) {
  type.def_property_readonly(
      "io_events", [](std::shared_ptr<Vm> self) { return VmIoEvents{std::move(self)}; },
      "Guest accesses that end in the hypervisor (IoEvents): ``vm.io_events.attach(event, port=0x510, size=2)``.");
}
