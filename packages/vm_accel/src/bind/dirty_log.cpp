// DirtyLog: which pages were written, as NumPy arrays.

#include "vm/accel/hypervisor/dirty_log.hpp"

#include <pybind11/numpy.h>
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

namespace {

py::array_t<bool> as_bools(const DirtyBitmap& bitmap) {
  py::array_t<bool> result(static_cast<py::ssize_t>(bitmap.pages));
  bool* to = result.mutable_data();
  for (std::uint64_t i = 0; i < bitmap.pages; ++i) to[i] = bitmap.test(i);
  return result;
}

py::array_t<std::uint64_t> collect(DirtyLog& self, std::optional<unsigned> vcpu) {
  std::vector<std::uint64_t> pages;
  {
    const py::gil_scoped_release release;
    pages = self.collect(vcpu);
  }
  return py::array_t<std::uint64_t>(static_cast<py::ssize_t>(pages.size()), pages.data());
}

template <class Call>
DirtyBitmap without_gil(Call&& call) {
  const py::gil_scoped_release release;
  return call();
}

}  // namespace

void add_dirty_log(py::module_& module, VmType& vm) {
  py::class_<DirtyLog, py::smart_holder> type(
      module, "DirtyLog",
      "Which pages of a VM were written by the guest and by the hypervisor for it.\n\n"
      "A slot is watched while its flag ``log_dirty`` is set. Any thread may call anything at once. Reading it takes "
      "nothing away from ``Vm.restore``.");
  type.def_property_readonly(
          "method", [](const DirtyLog& self) { return dirty_method_name(self.method()); },
          "\"bitmap\", \"manual\" or \"ring\".")
      .def_property_readonly("page_size", &DirtyLog::page_size, "Bytes of a page.")
      .def("use_manual", &DirtyLog::use_manual, py::call_guard<py::gil_scoped_release>(),
           "Keep bits until ``clear``; before any slot is watched. Raises NotSupported, InvalidConfig.")
      .def("use_ring", &DirtyLog::use_ring, "entries"_a, py::call_guard<py::gil_scoped_release>(),
           "List ``entries`` pages (a power of two) for each vCPU; before there are vCPUs and watched slots.\n\n"
           "``run`` returns ``DirtyRingFull()`` when a list is full: collect, reset, run on. Raises NotSupported, "
           "InvalidConfig.")
      .def(
          "take",
          [](DirtyLog& self, Unsigned base) { return as_bools(without_gil([&] { return self.take(base.value); })); },
          "base"_a,
          "The pages of the slot at ``base`` written since the last ``take``: one bool per page.\n\n"
          "Raises OutOfRange when no slot begins there, InvalidConfig when it is not watched or a ring is used.")
      .def(
          "peek",
          [](DirtyLog& self, Unsigned base) { return as_bools(without_gil([&] { return self.peek(base.value); })); },
          "base"_a, "The same without clearing; method \"manual\" only.")
      .def(
          "clear",
          [](DirtyLog& self, Unsigned base, Unsigned first_page, Unsigned pages) {
            const py::gil_scoped_release release;
            self.clear(base.value, first_page.value, pages.value);
          },
          "base"_a, "first_page"_a, "pages"_a,
          "Clear ``pages`` pages from ``first_page`` of what ``peek`` shows. Raises OutOfRange, InvalidConfig.")
      .def("collect", &collect, "vcpu"_a = py::none(),
           "What the vCPUs, or the one with the number ``vcpu``, listed since the last call.\n\n"
           "Guest-physical addresses of pages as uint64, in the order of writing for each vCPU; method \"ring\" only. "
           "Raises OutOfRange, InvalidConfig.")
      .def("reset", &DirtyLog::reset, py::call_guard<py::gil_scoped_release>(),
           "List pages that were collected again at their next write; returns how many. Method \"ring\" only.")
      .def("__repr__",
           [](const DirtyLog& self) { return "<DirtyLog, " + std::string(dirty_method_name(self.method())) + ">"; });
  vm.def_property_readonly("dirty_log", &Vm::dirty_log, "The DirtyLog of this VM. Raises NotSupported.");
}
