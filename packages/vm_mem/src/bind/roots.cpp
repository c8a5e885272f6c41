// vm_mem.roots: the scan for page-table roots.

#include "vm/mem/paging/roots.hpp"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bind.hpp"
#include "paging_config.hpp"
#include "touch.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/translation.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::paging;

namespace {

std::vector<RootCandidate> find(const vm::mem::GuestMemory& memory, const py::object& formats, std::size_t limit,
                                const py::object& progress) {
  RootScanOptions options;
  options.limit = limit;
  if (!formats.is_none()) {
    for (const py::handle format : formats)
      options.formats.push_back(paging_config_from(py::reinterpret_borrow<py::object>(format)));
    if (options.formats.empty()) return {};
  }
  options.progress = [&progress](std::uint64_t done, std::uint64_t total) {
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (!progress.is_none()) progress(done, total);
    return true;
  };
  const py::gil_scoped_release release;
  const TouchGuard touching(memory);
  return find_roots(memory, options);
}

std::vector<py::object> default_formats() {
  std::vector<py::object> formats;
  for (const PagingConfig& config : default_root_formats()) formats.push_back(paging_config_to_python(config));
  return formats;
}

std::string repr(const RootCandidate& candidate) {
  char score[16];
  std::snprintf(score, sizeof score, "%.1f", candidate.score);
  return "<RootCandidate " + describe(candidate.config) + ": score " + score + ">";
}

}  // namespace

void bind_roots(py::module_& module) {
  py::class_<RootCandidate>(module, "RootCandidate",
                            "A place in guest memory that makes sense as a page-table root, with the evidence.")
      .def_property_readonly(
          "config", [](const RootCandidate& self) { return paging_config_to_python(self.config); },
          "X86, RiscV or AArch64 with this root, for AddressSpace. The half of AArch64 that does not use it is "
          "disabled.")
      .def_readonly("root", &RootCandidate::root, "Physical address of the top table.")
      .def_readonly("score", &RootCandidate::score, "0 to 100; a ranking, not a probability.")
      .def_readonly("entries", &RootCandidate::entries, "Valid entries in the top table.")
      .def_readonly("shared_entries", &RootCandidate::shared_entries,
                    "Entries of the kernel's part that other candidates have in the same place.")
      .def_readonly("tables", &RootCandidate::tables, "Tables reached that are not empty, the top one included.")
      .def_readonly("broken_tables", &RootCandidate::broken_tables, "Of them those with too many malformed entries.")
      .def_readonly("empty_tables", &RootCandidate::empty_tables, "Tables reached that are empty.")
      .def_readonly("pages", &RootCandidate::pages, "Leaf mappings reached, of any size.")
      .def_readonly("accessed_pages", &RootCandidate::accessed_pages, "Of them those with the accessed flag set.")
      .def_readonly("kernel_pages", &RootCandidate::kernel_pages,
                    "Of them those out of the user's reach; x86 and RISC-V: and in the upper half.")
      .def_readonly("user_pages", &RootCandidate::user_pages, "Of them those in the user's reach.")
      .def_readonly("mapped_bytes", &RootCandidate::mapped_bytes, "Bytes that the leaf mappings cover.")
      .def_readonly("maps_itself", &RootCandidate::maps_itself,
                    "True when a supervisor mapping covers the top table, as in a kernel that edits its own tables.")
      .def_readonly("self_referring", &RootCandidate::self_referring,
                    "True when an entry of the top table points at the top table.")
      .def_property_readonly(
          "table_of",
          [](const RootCandidate& self) -> py::object {
            return self.table_of == no_address ? py::object(py::none()) : py::int_(self.table_of);
          },
          "Root of the better candidate that has this table as a lower one, or as its top table in another format; "
          "else None.")
      .def("__repr__", &repr);
  module.def("find_roots", &find, "memory"_a, "formats"_a = py::none(), py::kw_only(), "limit"_a = 64,
             "progress"_a = py::none(),
             "Read all of a guest's memory and rank what could be a page-table root, best first.\n\n"
             "formats: configurations to look for (their roots are ignored); None is default_root_formats(). limit: "
             "candidates returned. progress(done, total) is called with bytes now and then; what it raises stops the "
             "scan, as does Ctrl-C.\n\n"
             "Evidence is the tables alone: entries decode, lead to other tables, map memory, were used; the kernel's "
             "part is there, shared with other candidates, and maps the table itself. Processes of one kernel get the "
             "same score; those with more pages of their own come first.\n\n"
             "Thread-safe; releases the GIL. Raises InvalidConfig, ClosedError.");
  module.def("default_root_formats", &default_formats,
             "x86 4-level, LA57 and PAE, RISC-V Sv39, Sv48 and Sv57, AArch64 4K with 48-bit and 39-bit halves, as a "
             "list of configurations.");
}
