// What a monitor reads: clocks and threads of vCPUs, the kernel's statistics.

#include <pybind11/pybind11.h>

#include "bind.hpp"
#include "vm/accel/hypervisor/kernel_statistics.hpp"
#include "vm/mem/pages/unique_fd.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::accel;

namespace {

/// The statistics of a VM or a vCPU as {name: Statistic}; the format is read in Python.
template <class Self>
py::object statistics(Self& self) {
  vm::mem::UniqueFd fd;
  {
    const py::gil_scoped_release release;
    fd = self.kernel_statistics()->open();
  }
  return py::module_::import("vm_accel.stats").attr("read_statistics")(fd.get());
}

template <class Self>
py::object open_statistics(Self& self) {
  vm::mem::UniqueFd fd;
  {
    const py::gil_scoped_release release;
    fd = self.kernel_statistics()->open();
  }
  return py::module_::import("os").attr("dup")(fd.get());
}

constexpr const char* stats_doc =
    "What the kernel counts, {name: vm_accel.stats.Statistic}; see vm_accel.stats for reading it often. Raises "
    "NotSupported where KVM_CAP_BINARY_STATS_FD is missing.";
constexpr const char* open_doc =
    "A new descriptor of the kernel's statistics, for the caller to close; `vm_accel.stats.Statistics` reads it from "
    "any thread.";

}  // namespace

void add_monitor(VcpuType& type) {
  type.def("measure", &Vcpu::measure, "on"_a,
           "Begin or cease to count ``run_ns`` and ``handler_ns``. Any thread.\n\n"
           "It reads the clock twice in each run, which costs as much as the rest of a short run.")
      .def_property_readonly("measured", &Vcpu::measured, "Whether time is counted.")
      .def_property_readonly("run_ns", &Vcpu::run_ns,
                             "Nanoseconds inside ``run`` while it was measured: the guest, and what the hypervisor did "
                             "for it. Any thread.")
      .def_property_readonly(
          "handler_ns", &Vcpu::handler_ns,
          "Nanoseconds from the return of a measured run to the begin of the next one: what was done "
          "about exits. Any thread.")
      .def_property_readonly("owner_tid", &Vcpu::owner_tid,
                             "The kernel's number of the thread that it belongs to (``threading.get_native_id``); 0 "
                             "where threads have none. Any thread.")
      .def_property_readonly("stats", &statistics<Vcpu>, stats_doc)
      .def("open_stats", &open_statistics<Vcpu>, open_doc);
}

void add_monitor(VmType& type) {
  type.def_property_readonly("stats", &statistics<const Vm>, stats_doc)
      .def("open_stats", &open_statistics<const Vm>, open_doc);
}
