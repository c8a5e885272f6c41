// vm_mem.prefetch.Profile.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind.hpp"
#include "page_array.hpp"
#include "vm/mem/prefetch/profile.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using vm::mem::prefetch::Profile;
using Path = std::filesystem::path;

namespace {

/// A profile with the lock that makes it fit for Python's threads.
struct PyProfile {
  explicit PyProfile(Profile p) : profile(std::move(p)) {}

  Profile profile;
  mutable std::mutex mutex;
};

/// Every member but the constructors runs without the GIL and with the lock.
template <class Job>
auto locked(const PyProfile& self, Job job) {
  const py::gil_scoped_release release;
  const std::lock_guard<std::mutex> lock(self.mutex);
  return job();
}

void record(PyProfile& self, const py::object& pages) {
  if (PyIndex_Check(pages.ptr()) != 0 && !py::isinstance<py::array>(pages)) {
    const std::uint64_t page = pages.cast<Unsigned>().value;
    require_page(page);
    return locked(self, [&] { self.profile.record(page); });
  }
  const PageArray all(pages, "pages");
  const auto count = static_cast<std::size_t>(all.size());
  for (std::size_t i = 0; i < count; ++i) require_page(all[i]);
  locked(self, [&] {
    for (std::size_t i = 0; i < count; ++i) self.profile.record(all[i]);
  });
}

py::array_t<std::uint64_t> pages(const PyProfile& self, std::optional<std::size_t> limit) {
  const std::vector<std::uint64_t> hottest =
      locked(self, [&] { return self.profile.pages(limit.value_or(Profile::most_pages)); });
  return py::array_t<std::uint64_t>(static_cast<py::ssize_t>(hottest.size()), hottest.data());
}

std::string repr(const PyProfile& self) {
  return locked(self, [&] {
    return "<Profile: " + std::to_string(self.profile.size()) + " pages of 2**" +
           std::to_string(self.profile.page_shift()) + " bytes>";
  });
}

}  // namespace

void bind_prefetch_profile(py::module_& module) {
  py::class_<PyProfile>(module, "Profile",
                        "Pages with how often each was seen, for fetching before anybody asks.\n\n"
                        "page_shift: pages have 2**page_shift bytes, 12 to 30. Holds up to 2**22 distinct pages. "
                        "Thread-safe; releases the GIL.")
      .def(py::init([](std::uint32_t page_shift) { return std::make_unique<PyProfile>(Profile(page_shift)); }),
           py::kw_only(), "page_shift"_a = 12)
      .def_static(
          "from_range",
          [](Unsigned vaddr, Unsigned size, std::uint32_t page_shift) {
            const py::gil_scoped_release release;
            return std::make_unique<PyProfile>(Profile::from_range(vaddr.value, size.value, page_shift));
          },
          "vaddr"_a, "size"_a, py::kw_only(), "page_shift"_a = 12,
          "The pages that overlap [vaddr, vaddr + size), each seen once.\n\nRaises InvalidConfig when the range wraps "
          "or "
          "has more than 2**22 pages.")
      .def_static(
          "load",
          [](const Path& path) {
            const py::gil_scoped_release release;
            return std::make_unique<PyProfile>(Profile::load(path.string()));
          },
          "path"_a,
          "Read what save() wrote.\n\nRaises InvalidConfig saying what is wrong with the file, PlatformError.")
      .def("record", &record, "pages"_a,
           "Count one page number, or each of an array of them.\n\nRaises InvalidConfig for numbers above 2**52 - 1.")
      .def("pages", &pages, "limit"_a = py::none(),
           "The pages seen most often, most often first, as uint64; all of them when limit is None.\n\nOf equals the "
           "lower page number comes first.")
      .def(
          "count",
          [](const PyProfile& self, Unsigned page) {
            return locked(self, [&] { return self.profile.count(page.value); });
          },
          "page"_a, "How often a page was seen.")
      .def(
          "save",
          [](const PyProfile& self, const Path& path) { locked(self, [&] { self.profile.save(path.string()); }); },
          "path"_a, "Write a file for load(), replacing what is there.\n\nRaises PlatformError.")
      .def_property_readonly(
          "page_shift", [](const PyProfile& self) { return self.profile.page_shift(); },
          "Pages have 2**page_shift bytes.")
      .def_property_readonly(
          "dropped", [](const PyProfile& self) { return locked(self, [&] { return self.profile.dropped(); }); },
          "Sightings not recorded: the profile was full, or such a page cannot exist.")
      .def("__len__", [](const PyProfile& self) { return locked(self, [&] { return self.profile.size(); }); })
      .def("__repr__", &repr);
}
