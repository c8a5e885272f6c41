// LazyMemory for Python: what the page source may be, and the rule that nobody waits for Python while holding the GIL.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "huge_pages.hpp"
#include "lazy_docs.hpp"
#include "python_source.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/lazy_memory.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using namespace vm::mem;
using WithoutGil = py::call_guard<py::gil_scoped_release>;

namespace {

std::shared_ptr<PageSource> source_from(const py::object& source, std::uint64_t offset, const py::object& check) {
  if (py::isinstance<GuestMemory>(source)) return memory_source(source.cast<std::shared_ptr<GuestMemory>>(), offset);
  if (PyCallable_Check(source.ptr()) != 0) {
    if (offset != 0) throw vm::InvalidConfig("source_offset goes with a file or GuestMemory; add it in the function");
    return python_source(source, check);
  }
  const auto path = py::module_::import("os").attr("fsdecode")(source).cast<std::string>();
  return file_source(path, offset);
}

OnFailure on_failure_from(const std::string& name) {
  if (name == "wait") return OnFailure::wait;
  if (name == "poison") return OnFailure::poison;
  throw vm::InvalidConfig("unknown on_failure \"" + name + "\"; choose \"wait\" or \"poison\"");
}

WriteTracking tracking_from(const std::string& name) {
  for (const WriteTracking tracking :
       {WriteTracking::automatic, WriteTracking::none, WriteTracking::synchronous, WriteTracking::asynchronous}) {
    if (name == to_string(tracking)) return tracking;
  }
  throw vm::InvalidConfig("unknown tracking \"" + name + "\"; choose \"auto\", \"none\", \"sync\" or \"async\"");
}

std::unique_ptr<LazyMemory> make(Unsigned size, const py::object& source, Unsigned base, Unsigned source_offset,
                                 Unsigned prefetch_pages, unsigned threads, Unsigned page_size,
                                 const std::optional<std::string>& huge_pages, unsigned retries,
                                 Unsigned retry_delay_ns, const std::string& on_failure, const std::string& tracking,
                                 const py::object& on_error, const py::object& check) {
  LazyOptions options;
  options.base = base.value;
  options.prefetch_pages = prefetch_pages.value;
  options.threads = threads;
  options.page_size = page_size.value;
  options.huge_pages = parse_huge_pages(huge_pages);
  options.retries = retries;
  options.retry_delay_ns = retry_delay_ns.value;
  options.on_failure = on_failure_from(on_failure);
  options.tracking = tracking_from(tracking);
  if (!on_error.is_none()) options.on_error = python_on_error(on_error);
  auto pages = source_from(source, source_offset.value, check);
  const py::gil_scoped_release release;
  return std::make_unique<LazyMemory>(size.value, std::move(pages), options);
}

void populate_all(LazyMemory& lazy, const py::object& progress) {
  const py::gil_scoped_release release;
  lazy.populate_all([&progress](std::uint64_t done, std::uint64_t total) {
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (!progress.is_none()) progress(done, total);
  });
}

template <class Ask>
py::array_t<std::uint64_t> indices(Ask ask) {
  std::vector<std::uint64_t> pages;
  {
    const py::gil_scoped_release release;
    pages = ask();
  }
  return py::array_t<std::uint64_t>(static_cast<py::ssize_t>(pages.size()), pages.data());
}

std::optional<std::string> error(const LazyMemory& lazy) {
  std::string message = lazy.error();
  if (message.empty()) return std::nullopt;
  return message;
}

std::string repr(const LazyMemory& lazy) {
  try {
    return "<LazyMemory " + vm::hex(lazy.size()) + " bytes: " + std::to_string(lazy.resident()) + " of " +
           std::to_string(lazy.pages()) + " pages resident, tracking " + to_string(lazy.tracking()) + ">";
  } catch (const vm::ClosedError&) {
    return "<LazyMemory closed>";
  }
}

void bind_stats(py::module_& module) {
  py::class_<LazyStats>(module, "LazyStats", docs::lazy_stats)
      .def_readonly("faults", &LazyStats::faults, "Touches of missing pages that the kernel reported.")
      .def_readonly("pages_filled", &LazyStats::pages_filled, "By whatever cause.")
      .def_readonly("prefetched_pages", &LazyStats::prefetched_pages, "Of them those filled with a touched neighbour.")
      .def_readonly("populated_pages", &LazyStats::populated_pages,
                    "Of them those that populate, read, write or a view asked for.")
      .def_readonly("zero_pages", &LazyStats::zero_pages, "Of them those that were all zeros.")
      .def_readonly("coalesced", &LazyStats::coalesced,
                    "Faults on a page that was being filled, or had been meanwhile.")
      .def_readonly("write_faults", &LazyStats::write_faults, "First writes reported while tracking is \"sync\".")
      .def_readonly("source_calls", &LazyStats::source_calls, "Calls of the page source.")
      .def_readonly("source_errors", &LazyStats::source_errors, "Of them those that raised.")
      .def_readonly("failed_pages", &LazyStats::failed_pages, "Now waiting for retry(), or poisoned.")
      .def_readonly("discarded_pages", &LazyStats::discarded_pages, "By discard().")
      .def_readonly("bytes", &LazyStats::bytes, "That the source gave.")
      .def_readonly("fill_ns", &LazyStats::fill_ns,
                    "From asking the source to the page being there, summed over threads.")
      .def("__repr__", [](const LazyStats& stats) {
        return "<LazyStats faults=" + std::to_string(stats.faults) +
               " pages_filled=" + std::to_string(stats.pages_filled) +
               " prefetched_pages=" + std::to_string(stats.prefetched_pages) +
               " coalesced=" + std::to_string(stats.coalesced) +
               " source_errors=" + std::to_string(stats.source_errors) + ">";
      });
}

}  // namespace

void bind_lazy(py::module_& module) {
  bind_stats(module);
  // Its destructor may wait for handler threads, which may be in Python.
  py::class_<LazyMemory>(module, "LazyMemory", "Compiled part of vm_mem.LazyMemory.",
                         py::release_gil_before_calling_cpp_dtor())
      .def(py::init(&make), "size"_a, "source"_a, py::kw_only(), "base"_a = Unsigned{0},
           "source_offset"_a = Unsigned{0}, "prefetch_pages"_a = Unsigned{0}, "threads"_a = 1,
           "page_size"_a = Unsigned{4096}, "huge_pages"_a = py::none(), "retries"_a = 2,
           "retry_delay_ns"_a = Unsigned{10000000}, "on_failure"_a = "wait", "tracking"_a = "auto",
           "on_error"_a = py::none(), "check"_a = py::none())
      .def_static("available", &LazyMemory::unavailable,
                  "None when lazy memory works here, else a sentence that says what is missing and what to do.")
      .def_property_readonly("memory", &LazyMemory::memory, "The GuestMemory, for AddressSpace and everybody else.")
      .def_property_readonly("size", &LazyMemory::size, "Bytes.")
      .def_property_readonly("page_size", &LazyMemory::page_size, "Bytes filled at a time.")
      .def_property_readonly("pages", &LazyMemory::pages, "Pages of page_size in all.")
      .def_property_readonly("resident", &LazyMemory::resident, "Pages that are there now.")
      .def_property_readonly("stats", &LazyMemory::stats, "Counts since construction, as LazyStats.")
      .def_property_readonly("error", &error, "Why the last failed page failed; None when no page is failed.")
      .def_property_readonly("failed", &LazyMemory::failed, "Offsets of the failed pages, ascending.")
      .def_property_readonly(
          "tracking", [](const LazyMemory& lazy) { return to_string(lazy.tracking()); },
          "How writes are tracked: \"async\", \"sync\" or \"none\".")
      .def_property_readonly("user_mode_only", &LazyMemory::user_mode_only,
                             "True when touches by system calls fail with EFAULT instead of waiting.")
      .def(
          "populate", [](LazyMemory& lazy, Unsigned offset, Unsigned size) { lazy.populate(offset.value, size.value); },
          "offset"_a, "size"_a, WithoutGil(), docs::lazy_populate)
      .def("populate_all", &populate_all, "progress"_a = py::none(), docs::lazy_populate_all)
      .def(
          "discard", [](LazyMemory& lazy, Unsigned offset, Unsigned size) { lazy.discard(offset.value, size.value); },
          "offset"_a, "size"_a, WithoutGil(), docs::lazy_discard)
      .def("retry", &LazyMemory::retry, WithoutGil(), docs::lazy_retry)
      .def("track_writes", &LazyMemory::track_writes, WithoutGil(), docs::lazy_track)
      .def("stop_tracking", &LazyMemory::stop_tracking, WithoutGil(), "Forget which pages were written.")
      .def(
          "dirty", [](const LazyMemory& lazy) { return indices([&] { return lazy.dirty(); }); }, docs::lazy_dirty)
      .def(
          "reset_dirty", [](LazyMemory& lazy) { return indices([&] { return lazy.reset_dirty(); }); },
          docs::lazy_reset_dirty)
      .def("close", &LazyMemory::close, WithoutGil(), docs::lazy_close)
      .def_property_readonly("closed", &LazyMemory::closed, "Whether close() was called.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__",
           [](LazyMemory& lazy, const py::args&) {
             const py::gil_scoped_release release;
             lazy.close();
           })
      .def("__repr__", &repr);
}
