// PcMachine as vm_accel.Machine.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "bind.hpp"
#include "boot.hpp"
#include "devices.hpp"
#include "gil.hpp"
#include "run_loop.hpp"
#include "run_time.hpp"
#include "vm/accel/backends/backends.hpp"
#include "vm/accel/machine/pc_machine.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

/// A machine, and where its serial output is kept when nobody else wants it.
struct MachineObject {
  std::unique_ptr<PcMachine> pc;
  std::shared_ptr<BufferSink> output;
};

std::unique_ptr<MachineObject> make(const std::optional<std::shared_ptr<Hypervisor>>& hypervisor, Unsigned memory,
                                    unsigned cpus, const py::object& serial, bool test_device) {
  auto machine = std::make_unique<MachineObject>();
  PcOptions options;
  options.memory = memory.value;
  options.cpus = cpus;
  options.test_device = test_device;
  if (serial.is_none()) {
    options.serial = machine->output = std::make_shared<BufferSink>();
  } else {
    options.serial = sink_from(serial);
  }
  const py::gil_scoped_release release;
  machine->pc = std::make_unique<PcMachine>(hypervisor ? *hypervisor : create_hypervisor(), options);
  return machine;
}

boot::LoadedImage load(const MachineObject& self, const py::object& image, const std::string& kind,
                       const std::string& command_line, const py::sequence& modules, Unsigned flat_address) {
  return load_with(
      image, kind, command_line, modules, flat_address,
      [&self](const boot::Image& bytes, const boot::LoadOptions& options) { return self.pc->load(bytes, options); });
}

LoopObject run(const MachineObject& self, const py::object& timeout, bool stop_at_unclaimed) {
  PythonSignals signals;
  const LoopOptions options{timeout_from(timeout), &signals, stop_at_unclaimed};
  LoopResult result;
  {
    const GilReleased release;
    result = self.pc->run(options);
  }
  return loop_object(result, self.pc->vcpus());
}

}  // namespace

void bind_machine(py::module_& module) {
  py::class_<MachineObject>(
      module, "Machine",
      "A small PC put together: memory, interrupt controllers, timer, processors, serial port and the few ports that "
      "kernels and test guests want. No firmware, no disks, no PCI devices.\n\n"
      "serial: where COM1's output goes, as for Serial; None keeps it for ``output``. hypervisor: None makes one. The "
      "processors belong to the thread that makes the machine. Raises InvalidConfig, NotSupported, ResourceExhausted, "
      "PlatformError.")
      .def(py::init(&make), "hypervisor"_a = py::none(), py::kw_only(), "memory"_a = Unsigned{std::uint64_t{128} << 20},
           "cpus"_a = 1, "serial"_a = py::none(), "test_device"_a = true)
      .def("load", &load, "image"_a, py::kw_only(), "kind"_a = "automatic", "command_line"_a = "",
           "modules"_a = py::tuple(), "flat_address"_a = Unsigned{0x7C00},
           "Load a program, a path or bytes, and make the first processor begin there; as ``boot.load_image``.")
      .def("run", &run, "timeout"_a = py::none(), py::kw_only(), "stop_at_unclaimed"_a = false,
           "Go on until the guest ends, ``timeout`` seconds are over, or something happens that no device handles; as "
           "``Vm.run_loop``.\n\nA machine that stopped stays so until ``stop.clear()``.")
      .def_property_readonly(
          "vm", [](const MachineObject& self) { return self.pc->vm(); }, "The virtual machine (Vm).")
      .def_property_readonly(
          "memory", [](const MachineObject& self) { return self.pc->memory(); }, "Its memory (vm_mem.GuestMemory).")
      .def_property_readonly(
          "bus", [](const MachineObject& self) { return self.pc->bus(); }, "Its devices (DeviceBus).")
      .def_property_readonly(
          "stop", [](const MachineObject& self) { return self.pc->stop(); }, "What ends it (StopRequest).")
      .def_property_readonly(
          "serial", [](const MachineObject& self) { return self.pc->serial(); }, "COM1 (Serial).")
      .def_property_readonly(
          "vcpus", [](const MachineObject& self) { return self.pc->vcpus(); }, "Its processors (Vcpu).")
      .def_property_readonly(
          "output",
          [](const MachineObject& self) {
            return py::bytes(self.output ? self.output->text() : std::string()).attr("decode")("utf-8", "replace");
          },
          "What the guest sent to COM1 so far, as text: the last MiB; empty when ``serial`` was given.")
      .def(
          "close", [](const MachineObject& self) { self.pc->close(); }, py::call_guard<py::gil_scoped_release>(),
          "Close the virtual machine. Twice is fine.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__",
           [](const MachineObject& self, const py::args&) {
             const py::gil_scoped_release release;
             self.pc->close();
           })
      .def("__repr__", [](const MachineObject& self) {
        const std::size_t cpus = self.pc->vcpus().size();
        return "<Machine, " + std::to_string(self.pc->memory()->size() >> 20) + " MiB, " + std::to_string(cpus) +
               (cpus == 1 ? " processor>" : " processors>");
      });
}
