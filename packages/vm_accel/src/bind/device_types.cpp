// The devices of this library, and where their output goes.

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "devices.hpp"
#include "gil.hpp"
#include "vm/accel/devices/cmos.hpp"
#include "vm/accel/devices/fw_cfg.hpp"
#include "vm/accel/devices/ports.hpp"
#include "vm/accel/devices/serial.hpp"
#include "vm/accel/devices/test_device.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

/// Calls a Python function with bytes. It may be dropped by a thread that has no GIL.
class PythonSink final : public ByteSink {
 public:
  explicit PythonSink(py::object function) : function_(std::move(function)) {}
  PythonSink(const PythonSink&) = delete;
  PythonSink& operator=(const PythonSink&) = delete;
  ~PythonSink() override {
    const GilHeld gil;
    function_ = py::object();
  }
  void write(const std::byte* data, std::size_t size) override {
    const GilHeld gil;
    function_(py::bytes(reinterpret_cast<const char*>(data), size));
  }

 private:
  py::object function_;
};

std::vector<std::byte> bytes_from(const py::bytes& data) {
  const auto* first = reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(data.ptr()));
  return {first, first + PyBytes_GET_SIZE(data.ptr())};
}

void bind_serial(py::module_& module) {
  py::class_<BufferSink, py::smart_holder>(module, "BufferSink",
                                           "Keeps the last bytes that a device sent, capacity of them. Any thread.")
      .def(py::init<std::size_t>(), "capacity"_a = std::size_t{1} << 20)
      .def_property_readonly(
          "data", [](const BufferSink& self) { return py::bytes(self.text()); }, "The bytes that are there.")
      .def_property_readonly("dropped", &BufferSink::dropped, "Bytes that came and are not there any more.");
  py::class_<Serial, Device, py::smart_holder>(
      module, "Serial",
      "A 16550A serial port of eight ports. Any thread.\n\n"
      "sink: where its output goes: None (nowhere), a BufferSink, a file descriptor, a file object that has one, or a "
      "function that takes bytes. line: a function that takes the level of its interrupt line. Neither may call the "
      "port itself.")
      .def(py::init([](const py::object& sink, LineLevel line) {
             return std::make_shared<Serial>(sink_from(sink), std::move(line));
           }),
           "sink"_a = py::none(), "line"_a = py::none())
      .def(
          "feed",
          [](Serial& self, const py::bytes& data) {
            const std::vector<std::byte> bytes = bytes_from(data);
            const py::gil_scoped_release release;
            self.feed(bytes.data(), bytes.size());
          },
          "data"_a, "Bytes for the guest to receive, after those that it has not read yet.")
      .def_property_readonly("waiting", py::cpp_function(&Serial::waiting, WithoutGil()),
                             "Bytes that the guest has not read yet.");
}

template <class T>
void bind_stopping(py::module_& module, const char* name, const char* doc) {
  py::class_<T, Device, py::smart_holder>(module, name, doc).def(py::init<std::shared_ptr<StopRequest>>(), "stop"_a);
}

void bind_small(py::module_& module) {
  bind_stopping<DebugExit>(module, "DebugExit", "Ends the machine with status value * 2 + 1; QEMU's isa-debug-exit.");
  bind_stopping<PowerOffPort>(module, "PowerOffPort", "Ends the machine after the letters \"Shutdown\".");
  bind_stopping<KeyboardController>(module, "KeyboardController", "No keyboard, but the command 0xFE that resets.");
  bind_stopping<EmptyPci>(module, "EmptyPci", "A PCI bus without devices, and the reset register 0xCF9.");
  py::class_<IgnoredPort, Device, py::smart_holder>(module, "IgnoredPort", "Takes every write and reads as 0.")
      .def(py::init<>());
  py::class_<EchoPort, Device, py::smart_holder>(module, "EchoPort", "Reads as what was written last.")
      .def(py::init<>());
  py::class_<PageFlushPort, Device, py::smart_holder>(
      module, "PageFlushPort", "A write of a guest-physical address makes the hypervisor look its page up anew.")
      .def(py::init<std::shared_ptr<vm::mem::GuestMemory>>(), "memory"_a);
  py::class_<IrqLinePorts, Device, py::smart_holder>(
      module, "IrqLinePorts", "A write to port n calls set(n, value != 0): the level of interrupt line n.")
      .def(py::init<IrqLinePorts::SetLine>(), "set"_a);
  py::class_<MemoryDevice, Device, py::smart_holder>(module, "MemoryDevice", "A device that behaves like memory.")
      .def(py::init([](Unsigned size) { return std::make_shared<MemoryDevice>(size.value); }),
           "size"_a = Unsigned{MemoryDevice::size});
  py::class_<Cmos, Device, py::smart_holder>(
      module, "Cmos", "The clock of a PC, and where firmware notes the memory size. now() -> seconds since 1970.")
      .def(py::init([](Unsigned low, Unsigned high, unsigned cpus, const std::optional<std::function<double()>>& now) {
             Cmos::Now seconds;
             if (now) seconds = [clock = *now] { return static_cast<std::time_t>(clock()); };
             return std::make_shared<Cmos>(low.value, high.value, cpus, std::move(seconds));
           }),
           "low_bytes"_a, "high_bytes"_a = Unsigned{0}, "processors"_a = 1, "now"_a = py::none());
}

void bind_fw_cfg(py::module_& module) {
  py::class_<FwCfg, Device, py::smart_holder>(
      module, "FwCfg", "QEMU's way to hand facts to firmware and test guests: ports 0x510 and 0x511. Any thread.")
      .def(py::init([](const std::optional<Unsigned>& memory, std::uint16_t processors) {
             return memory ? std::make_shared<FwCfg>(memory->value, processors) : std::make_shared<FwCfg>();
           }),
           "memory"_a = py::none(), "processors"_a = 1)
      .def(
          "set", [](FwCfg& self, std::uint16_t item, const py::bytes& data) { self.set(item, bytes_from(data)); },
          "item"_a, "data"_a, "Set the bytes of an item.")
      .def(
          "add_file",
          [](FwCfg& self, const std::string& name, const py::bytes& data) {
            return self.add_file(name, bytes_from(data));
          },
          "name"_a, "data"_a, "Add a file to the directory; returns its number.");
}

}  // namespace

std::shared_ptr<ByteSink> sink_from(const py::object& sink) {
  if (sink.is_none()) return nullptr;
  if (py::isinstance<BufferSink>(sink)) return sink.cast<std::shared_ptr<BufferSink>>();
  if (PyIndex_Check(sink.ptr()) != 0) return std::make_shared<DescriptorSink>(sink.cast<int>());
  if (py::hasattr(sink, "fileno")) {
    if (py::hasattr(sink, "flush")) sink.attr("flush")();  // what is in its buffer comes first
    return std::make_shared<DescriptorSink>(sink.attr("fileno")().cast<int>());
  }
  if (PyCallable_Check(sink.ptr()) == 0)
    throw py::type_error("output goes to a BufferSink, a descriptor, a file or a function that takes bytes, not to " +
                         py::repr(sink).cast<std::string>());
  return std::make_shared<PythonSink>(sink);
}

void bind_device_types(py::module_& module) {
  bind_serial(module);
  bind_small(module);
  bind_fw_cfg(module);
}
