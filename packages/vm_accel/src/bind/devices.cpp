// The device bus, and devices written in Python.

#include "devices.hpp"

#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "gil.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

/// Calls a Python object. It may be dropped by a thread that has no GIL.
class PythonDevice final : public Device {
 public:
  explicit PythonDevice(const py::object& device)
      : device_(device), read_(device.attr("read")), write_(device.attr("write")) {
    for (const py::object& function : {read_, write_})
      if (PyCallable_Check(function.ptr()) == 0) throw py::type_error("a device's read and write must be functions");
  }
  PythonDevice(const PythonDevice&) = delete;
  PythonDevice& operator=(const PythonDevice&) = delete;
  ~PythonDevice() override {
    const GilHeld gil;
    device_ = read_ = write_ = py::object();
  }

  std::uint64_t read(std::uint64_t offset, unsigned width) override {
    const GilHeld gil;
    const py::object value = read_(offset, width);
    if (PyIndex_Check(value.ptr()) == 0)
      throw py::type_error(std::string("read() of a device must return an int, got ") + Py_TYPE(value.ptr())->tp_name);
    return value.cast<Unsigned>().value;
  }
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override {
    const GilHeld gil;
    write_(offset, width, value);
  }

  const py::object& object() const { return device_; }

 private:
  py::object device_, read_, write_;
};

py::object object_of(const std::shared_ptr<Device>& device) {
  if (const auto* own = dynamic_cast<const PythonDevice*>(device.get())) return own->object();
  return py::cast(device);
}

std::string space_name(BusSpace space) { return space == BusSpace::port ? "port" : "memory"; }

std::string repr(const BusUsage& self) {
  const BusTraffic& traffic = self.traffic;
  return "<BusRange " + space_name(self.range.space) + " " + vm::hex(self.range.base) + "-" +
         vm::hex(self.range.last()) + " '" + self.range.name + "', " + std::to_string(traffic.reads) + " reads, " +
         std::to_string(traffic.writes) + " writes>";
}

std::string repr(const BusTraffic& self) {
  return "<BusTraffic " + std::to_string(self.reads) + " reads of " + std::to_string(self.read_bytes) + " bytes, " +
         std::to_string(self.writes) + " writes of " + std::to_string(self.written_bytes) + " bytes>";
}

void bind_usage(py::module_& module) {
  py::class_<BusTraffic>(module, "BusTraffic", "What went over a bus, counted where it happened.")
      .def_readonly("reads", &BusTraffic::reads, "Reads.")
      .def_readonly("writes", &BusTraffic::writes, "Writes.")
      .def_readonly("read_bytes", &BusTraffic::read_bytes, "Bytes read.")
      .def_readonly("written_bytes", &BusTraffic::written_bytes, "Bytes written.")
      .def("__repr__", [](const BusTraffic& self) { return repr(self); });
  py::class_<BusUsage>(module, "BusRange", "One device's ports or addresses, and what went over them so far.")
      .def_property_readonly(
          "space", [](const BusUsage& self) { return space_name(self.range.space); }, "\"port\" or \"memory\".")
      .def_property_readonly(
          "base", [](const BusUsage& self) { return self.range.base; }, "The first.")
      .def_property_readonly(
          "size", [](const BusUsage& self) { return self.range.size; }, "How many.")
      .def_property_readonly(
          "name", [](const BusUsage& self) { return self.range.name; }, "For people.")
      .def_property_readonly(
          "device", [](const BusUsage& self) { return object_of(self.range.device); }, "Who answers.")
      .def_readonly("traffic", &BusUsage::traffic, "Counted since the range was added.")
      .def("__repr__", [](const BusUsage& self) { return repr(self); });
}

void add_ports(DeviceBus& bus, Unsigned first, Unsigned count, const py::object& device, const std::string& name) {
  bus.add({BusSpace::port, first.value, count.value, name, device_from(device)});
}

void add_memory(DeviceBus& bus, Unsigned base, Unsigned size, const py::object& device, const std::string& name) {
  bus.add({BusSpace::memory, base.value, size.value, name, device_from(device)});
}

}  // namespace

std::shared_ptr<Device> device_from(const py::object& device) {
  if (py::isinstance<Device>(device)) return device.cast<std::shared_ptr<Device>>();
  if (!py::hasattr(device, "read") || !py::hasattr(device, "write"))
    throw py::type_error("a device has read(offset, width) -> int and write(offset, width, value)");
  return std::make_shared<PythonDevice>(device);
}

std::shared_ptr<DeviceBus> bus_from(const py::object& handlers) {
  if (py::isinstance<DeviceBus>(handlers)) return handlers.cast<std::shared_ptr<DeviceBus>>();
  auto bus = std::make_shared<DeviceBus>();
  if (handlers.is_none()) return bus;
  for (const py::handle item : handlers.attr("items")()) {
    const auto pair = py::reinterpret_borrow<py::tuple>(item);
    const py::object key = pair[0], device = pair[1];
    if (PyIndex_Check(key.ptr()) != 0) {
      bus->add({BusSpace::port, key.cast<Unsigned>().value, 1, {}, device_from(device)});
      continue;
    }
    if (!py::hasattr(key, "start") || !py::hasattr(key, "step") || key.attr("step").cast<std::int64_t>() != 1)
      throw py::type_error("handlers map ports to devices: an int or range(first, end), not " +
                           py::repr(key).cast<std::string>());
    bus->add({BusSpace::port, key.attr("start").cast<Unsigned>().value, py::len(key), {}, device_from(device)});
  }
  return bus;
}

void bind_devices(py::module_& module) {
  py::class_<Device, py::smart_holder>(
      module, "Device",
      "Something that answers the guest. Any object with these two methods is one; the devices of this library derive "
      "from it.")
      .def("read", &Device::read, "offset"_a, "width"_a, py::call_guard<py::gil_scoped_release>(),
           "The width bytes at offset from the start of its range, as a number.")
      .def("write", &Device::write, "offset"_a, "width"_a, "value"_a, py::call_guard<py::gil_scoped_release>(),
           "Write width bytes at offset from the start of its range.");
  bind_usage(module);
  py::class_<DeviceBus, py::smart_holder>(
      module, "DeviceBus",
      "The devices of a machine by ports and guest-physical addresses. Any thread may call anything at once.\n\n"
      "An access of 1, 2, 4 or 8 bytes inside one range reaches the device as it is, any other byte by byte. What no "
      "device answers reads as all ones and is counted. Devices are called on the threads of the vCPUs; what they "
      "raise ends the run loop.")
      .def(py::init<>())
      .def("add_ports", &add_ports, "first"_a, "count"_a, "device"_a, "name"_a = "",
           "Let device answer count ports from first on. Raises InvalidConfig on an overlap.")
      .def("add_memory", &add_memory, "base"_a, "size"_a, "device"_a, "name"_a = "",
           "Let device answer size guest-physical addresses from base on. Memory slots hide them. Raises InvalidConfig "
           "on an overlap.")
      .def(
          "remove_ports", [](DeviceBus& self, Unsigned first) { return self.remove(BusSpace::port, first.value); },
          "first"_a, "Remove the range that begins there; False when there is none.")
      .def(
          "remove_memory", [](DeviceBus& self, Unsigned base) { return self.remove(BusSpace::memory, base.value); },
          "base"_a, "Remove the range that begins there; False when there is none.")
      .def_property_readonly("ranges", &DeviceBus::usage, "All ranges (BusRange), ports first, in ascending order.")
      .def_property_readonly(
          "unclaimed_ports", [](const DeviceBus& self) { return self.unclaimed(BusSpace::port); },
          "Port accesses that no device answered.")
      .def_property_readonly(
          "unclaimed_memory", [](const DeviceBus& self) { return self.unclaimed(BusSpace::memory); },
          "Memory accesses that no device answered.")
      .def("__repr__", [](const DeviceBus& self) {
        const std::size_t ranges = self.usage().size();
        return "<DeviceBus, " + std::to_string(ranges) + (ranges == 1 ? " range>" : " ranges>");
      });
  bind_device_types(module);
}
