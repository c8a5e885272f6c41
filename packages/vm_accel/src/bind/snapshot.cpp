// Snapshot, and what a Vm does with it.

#include "vm/accel/snapshot/snapshot.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bind.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

std::vector<unsigned> vcpu_ids(const Snapshot& self) {
  std::vector<unsigned> ids;
  for (const SnapshotVcpu& vcpu : self.parts().vcpus) ids.push_back(vcpu.id);
  return ids;
}

std::uint64_t stored_size(const Snapshot& self) {
  return self.parts().memory ? self.parts().memory->present_pages() * MemoryImage::page_size : 0;
}

std::string repr(const Snapshot& self) {
  const std::size_t vcpus = self.parts().vcpus.size();
  return "<Snapshot " + self.parts().backend + " " + self.parts().architecture + ": " +
         std::to_string(self.memory_size() >> 10) + " KiB, " + std::to_string(stored_size(self) >> 10) +
         " KiB of it not zeros, " + std::to_string(vcpus) + (vcpus == 1 ? " vCPU>" : " vCPUs>");
}

std::uint64_t restore(Vm& self, const Snapshot& snapshot, bool compare) {
  return snapshot.restore(self, compare ? RestorePages::all : RestorePages::changed).pages;
}

void write_bytes(Vm& self, Unsigned paddr, const py::buffer& data) {
  const py::buffer_info info = data.request();
  if (PyBuffer_IsContiguous(info.view(), 'C') == 0) throw py::buffer_error("write needs contiguous bytes");
  const py::gil_scoped_release release;
  self.write(paddr.value, info.ptr, static_cast<std::uint64_t>(info.size * info.itemsize));
}

void bind_type(py::module_& module) {
  py::class_<Snapshot, py::smart_holder>(
      module, "Snapshot",
      "A VM at one moment: memory, all of its vCPUs, and the controllers and timers in the kernel.\n\n"
      "Immutable. Made by ``Vm.snapshot``; many VMs can be made from it and go back to it. Devices outside the "
      "hypervisor, interrupt routes, eventfds and breakpoints are not part of it.")
      .def(
          "clone",
          [](const Snapshot& self, Hypervisor& hypervisor, bool track) { return self.clone(hypervisor, track); },
          "hypervisor"_a, py::kw_only(), "track"_a = true, WithoutGil(),
          "A new VM in this state that shares all memory until it is written.\n\n"
          "Its vCPUs (``vm.vcpus``) belong to the calling thread. Raises InvalidConfig naming what this machine lacks, "
          "ResourceExhausted, PlatformError.")
      .def(
          "save", [](const Snapshot& self, const std::filesystem::path& path) { self.save(path.string()); }, "path"_a,
          WithoutGil(),
          "Write a file, which replaces ``path`` once it is complete; zeros are left out. Raises PlatformError.")
      .def_static(
          "load", [](const std::filesystem::path& path) { return Snapshot::load(path.string()); }, "path"_a,
          WithoutGil(), "Read a file. Raises InvalidConfig saying what is wrong at which offset, PlatformError.")
      .def_property_readonly("memory_size", &Snapshot::memory_size, "Bytes of guest memory.")
      .def_property_readonly("stored_size", &stored_size, "Bytes of memory that are kept: pages that are not zeros.")
      .def_property_readonly("vcpu_ids", &vcpu_ids, "The numbers of the vCPUs.")
      .def_property_readonly(
          "backend", [](const Snapshot& self) { return self.parts().backend; }, "\"kvm\".")
      .def_property_readonly(
          "architecture", [](const Snapshot& self) { return self.parts().architecture; }, "\"x86_64\".")
      .def("__repr__", &repr);
}

}  // namespace

void add_snapshot(py::module_& module, VmType& vm) {
  bind_type(module);
  vm.def("snapshot", &Snapshot::take, py::kw_only(), "track"_a = true, WithoutGil(),
         "Take a Snapshot. All vCPUs are stopped and belong to the calling thread.\n\n"
         "``track``: note from now on what changes, so that ``restore`` need not look at everything. Raises "
         "InvalidConfig when an exit waits for its answer, NotSupported, AccessViolation.")
      .def("restore", &restore, "snapshot"_a, py::kw_only(), "compare"_a = false, WithoutGil(),
           "Put the VM back and return how many pages that took.\n\n"
           "Copies the pages that the guest wrote and those written through ``write`` or named by ``mark_dirty``; "
           "``compare`` looks at all memory and finds every other change as well. All memory is also compared the "
           "first time that a VM is put back to a snapshot which was not its last. Raises InvalidConfig naming what "
           "differs in slots, vCPUs or devices.")
      .def("fork", &vm::accel::fork, py::kw_only(), "track"_a = true, WithoutGil(),
           "A copy of this VM as it is now, sharing memory until it is written; for several, clone a snapshot.")
      .def("write", &write_bytes, "paddr"_a, "data"_a,
           "Write bytes to guest memory; ``restore`` puts them back. Raises OutOfRange, AccessViolation.")
      .def(
          "mark_dirty",
          [](Vm& self, Unsigned paddr, Unsigned size) {
            const py::gil_scoped_release release;
            self.mark_dirty(paddr.value, size.value);
          },
          "paddr"_a, "size"_a, "This process wrote ``size`` bytes at ``paddr``; ``restore`` puts them back.");
}
