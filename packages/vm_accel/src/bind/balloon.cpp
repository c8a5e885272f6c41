// Balloon, guest_memfds, parked vCPUs: memory and processors that come and go while a guest runs.

#include "vm/accel/hypervisor/balloon.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bind.hpp"
#include "vm/accel/hypervisor/guest_memfds.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

std::vector<std::uint64_t> numbers(const std::vector<Unsigned>& frames) {
  std::vector<std::uint64_t> result;
  result.reserve(frames.size());
  for (const Unsigned frame : frames) result.push_back(frame.value);
  return result;
}

std::string stats_repr(const BalloonStats& self) {
  return "<BalloonStats: " + std::to_string(self.inflated_pages) + " pages in the balloon, " +
         std::to_string(self.resident_bytes >> 10) + " of " + std::to_string(self.memory_bytes >> 10) +
         " KiB resident>";
}

void bind_stats(py::module_& module) {
  py::class_<BalloonStats>(module, "BalloonStats", "What a balloon holds and what the machine costs. A copy.")
      .def_readonly("page_size", &BalloonStats::page_size, "Bytes of a page.")
      .def_readonly("inflated_pages", &BalloonStats::inflated_pages, "Pages in the balloon now.")
      .def_readonly("inflated_bytes", &BalloonStats::inflated_bytes, "Bytes in the balloon now.")
      .def_readonly("inflations", &BalloonStats::inflations,
                    "Pages put in since the VM was made, as often as they were.")
      .def_readonly("deflations", &BalloonStats::deflations, "Pages taken out since the VM was made.")
      .def_readonly("memory_bytes", &BalloonStats::memory_bytes, "Bytes of all slots.")
      .def_readonly("resident_bytes", &BalloonStats::resident_bytes,
                    "Of them in the host's memory now, measured page by page (mincore).")
      .def("__repr__", &stats_repr);
}

}  // namespace

void bind_balloon(py::module_& module) {
  bind_stats(module);
  py::class_<Balloon, py::smart_holder>(
      module, "Balloon",
      "Gives memory of a guest back to the host while the machine runs: ``vm.balloon``.\n\n"
      "The host's side only: who uses it knows which pages the guest does not need; a driver in the guest that would "
      "choose them is not part of it. A guest that touches a page in the balloon reads zeros and costs memory again. "
      "Memory mapped twice is given back under both addresses; no balloon over memory that a device reaches by DMA. "
      "Any thread, also while vCPUs run; raises ClosedError when the VM is closed.")
      .def(
          "inflate",
          [](Balloon& self, Unsigned paddr, Unsigned size) {
            const py::gil_scoped_release release;
            self.inflate(paddr.value, size.value);
          },
          "paddr"_a, "size"_a,
          "Put the pages of a range into the balloon: the host has their memory back, and they read as zeros.\n\n"
          "Raises OutOfRange, AccessViolation for read-only memory, NotSupported for memory whose bytes live in a file "
          "or come from a page source, InvalidConfig for parts of pages; then nothing changed.")
      .def(
          "inflate_pages",
          [](Balloon& self, const std::vector<Unsigned>& frames) {
            const py::gil_scoped_release release;
            self.inflate_pages(numbers(frames));
          },
          "frames"_a,
          "The same for pages by number (address // page size), in any order; all are checked before one is given "
          "back.")
      .def(
          "deflate",
          [](Balloon& self, Unsigned paddr, Unsigned size, bool populate) {
            const py::gil_scoped_release release;
            self.deflate(paddr.value, size.value, populate);
          },
          "paddr"_a, "size"_a, py::kw_only(), "populate"_a = false,
          "Take what is in the balloon of a range out of it.\n\n"
          "``populate``: put pages under all of it now, instead of one by one as the guest touches them. Raises "
          "OutOfRange, InvalidConfig for parts of pages, and what GuestMemory.populate raises; then nothing is taken "
          "out.")
      .def(
          "deflate_pages",
          [](Balloon& self, const std::vector<Unsigned>& frames, bool populate) {
            const py::gil_scoped_release release;
            self.deflate_pages(numbers(frames), populate);
          },
          "frames"_a, py::kw_only(), "populate"_a = false, "The same for pages by number.")
      .def_property_readonly("ranges", &Balloon::ranges, "What is in, as a list of (address, bytes), ascending.")
      .def("stats", &Balloon::stats, WithoutGil(), "Counts, and a measurement: asks the kernel about every page.")
      .def("__repr__", [](const Balloon& self) {
        std::uint64_t bytes = 0;
        for (const auto& range : self.ranges()) bytes += range.second;
        return "<Balloon: " + std::to_string(bytes >> 10) + " KiB inside>";
      });
}

void add_balloon(VmType& type) {
  type.def_property_readonly("balloon", &Vm::balloon, "What gives memory back to the host: a Balloon.")
      .def(
          "guest_memfd",
          [](const Vm& self, Unsigned size, Unsigned base) {
            const py::gil_scoped_release release;
            return self.guest_memfds()->create(size.value, base.value);
          },
          "size"_a, py::kw_only(), "base"_a = Unsigned{0},
          "Memory in a guest_memfd of this VM: a vm_mem.GuestMemory to ``map``.\n\n"
          "The hypervisor gives its pages to the guest without this process's page tables. Its slot is neither "
          "read-only nor watched for writes. Raises NotSupported naming what the kernel lacks (it takes Linux 6.18), "
          "InvalidConfig for parts of pages, ResourceExhausted.")
      .def(
          "set_private",
          [](const Vm& self, Unsigned paddr, Unsigned size, bool is_private) {
            const py::gil_scoped_release release;
            self.guest_memfds()->set_private(paddr.value, size.value, is_private);
          },
          "paddr"_a, "size"_a, "private"_a = true,
          "Make pages private to the guest, or shared with this process again.\n\n"
          "Raises NotSupported naming KVM_CAP_MEMORY_ATTRIBUTES where the kernel has no private memory for this VM, "
          "InvalidConfig for parts of pages, PlatformError.")
      .def_property_readonly("parked", &Vm::parked,
                             "Numbers of the vCPUs that were parked; ``create_vcpu(id=...)`` hands them out again.");
}

void add_hotplug(VcpuType& type) {
  type.def("park", &Vcpu::park, WithoutGil(),
           "Take the processor out of the machine, so that ``vm.create_vcpu(id=...)`` can put it back.\n\n"
           "This object is closed; a run in progress raises ClosedError. Any thread; twice is fine.")
      .def(
          "pre_fault",
          [](Vcpu& self, Unsigned paddr, Unsigned size) {
            const py::gil_scoped_release release;
            self.pre_fault(paddr.value, size.value);
          },
          "paddr"_a, "size"_a,
          "Enter memory in the hypervisor's page tables before the guest touches it.\n\n"
          "Raises NotSupported naming KVM_CAP_PRE_FAULT_MEMORY, InvalidConfig for parts of pages, PlatformError where "
          "there is no slot.");
}
