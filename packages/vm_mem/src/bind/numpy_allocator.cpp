// ArrayAllocator as NumPy's own allocator of array data (NEP 49). NumPy calls it without Python in between, and its
// functions need no GIL.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "bind.hpp"
#include "pages_docs.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/numa/arrays.hpp"
#include "vm/mem/pages/array_allocator.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using vm::mem::ArrayAllocator;
using vm::mem::ArrayAllocatorStats;

namespace {

/// PyDataMem_Handler, version 1, as numpy/ndarraytypes.h has it since NumPy 1.22.
struct NumpyHandler {
  char name[127];
  std::uint8_t version;
  void* context;
  void* (*malloc)(void* context, std::size_t size);
  void* (*calloc)(void* context, std::size_t count, std::size_t size);
  void* (*realloc)(void* context, void* array, std::size_t size);
  void (*free)(void* context, void* array, std::size_t size);
};
constexpr const char* capsule_name = "mem_handler";
constexpr std::uint8_t handler_version = 1;

/// Places in NumPy's table of functions, which never change (numpy/_core/code_generators/numpy_api.py).
constexpr std::size_t feature_version_index = 211;  // PyArray_GetNDArrayCFeatureVersion
constexpr std::size_t set_handler_index = 304;      // PyDataMem_SetHandler
constexpr unsigned feature_version_1_22 = 0xF;

using SetHandler = PyObject* (*)(PyObject*);

SetHandler numpy_set_handler() {
  const py::object table = py::detail::import_numpy_core_submodule("multiarray").attr("_ARRAY_API");
  auto** const functions = static_cast<void**>(PyCapsule_GetPointer(table.ptr(), nullptr));
  if (functions == nullptr) throw py::error_already_set();
  const auto feature_version = reinterpret_cast<unsigned (*)()>(functions[feature_version_index]);
  if (feature_version() < feature_version_1_22) {
    throw vm::NotSupported("this NumPy takes no allocators; NumPy 1.22 and newer do");
  }
  return reinterpret_cast<SetHandler>(functions[set_handler_index]);
}

/// What the capsule owns. Every array that was made with it holds the capsule.
struct Installed : NumpyHandler {
  std::shared_ptr<ArrayAllocator> allocator;
};

ArrayAllocator& allocator_of(void* context) { return *static_cast<ArrayAllocator*>(context); }

void destroy(PyObject* capsule) {
  delete static_cast<Installed*>(static_cast<NumpyHandler*>(PyCapsule_GetPointer(capsule, capsule_name)));
}

py::object capsule_of(std::shared_ptr<ArrayAllocator> allocator) {
  auto installed = std::make_unique<Installed>();
  static_cast<NumpyHandler&>(*installed) = {
      "vm_mem", handler_version, allocator.get(),
      [](void* context, std::size_t size) { return allocator_of(context).allocate(size); },
      [](void* context, std::size_t count, std::size_t size) {
        return allocator_of(context).allocate_zeroed(count, size);
      },
      [](void* context, void* array, std::size_t size) { return allocator_of(context).reallocate(array, size); },
      // NumPy's size is what the array has now, not what was allocated; the allocator knows that itself.
      [](void* context, void* array, std::size_t) { allocator_of(context).free(array); }};
  installed->allocator = std::move(allocator);
  NumpyHandler* const handler = installed.get();
  auto capsule = py::reinterpret_steal<py::object>(PyCapsule_New(handler, capsule_name, destroy));
  if (!capsule) throw py::error_already_set();
  installed.release();  // the capsule's now
  return capsule;
}

/// Makes `handler` NumPy's in this context (contextvars); returns the one before.
py::object set_handler(const py::object& handler) {
  auto before = py::reinterpret_steal<py::object>(numpy_set_handler()(handler.ptr()));
  if (!before) throw py::error_already_set();
  return before;
}

/// The Python object: the allocator, and what it counts.
class NumpyAllocator {
 public:
  NumpyAllocator(std::optional<int> node, bool huge_pages, Unsigned alignment, Unsigned retain) : node_(node) {
    vm::mem::ArrayAllocatorOptions options;
    options.huge_pages = huge_pages;
    options.alignment = alignment.value;
    options.retain = retain.value;
    if (node) options = vm::mem::numa::place_arrays(options, vm::mem::numa::NumaPolicy::local(*node));
    allocator_ = std::make_shared<ArrayAllocator>(options);
  }

  py::object install() const { return set_handler(capsule_of(allocator_)); }
  void finish(const py::object& before) const {
    set_handler(before);
    const py::gil_scoped_release release;  // unmapping many pages takes time
    allocator_->stop_retaining();
  }
  ArrayAllocatorStats stats() const noexcept { return allocator_->stats(); }
  const vm::mem::ArrayAllocatorOptions& options() const noexcept { return allocator_->options(); }
  std::optional<int> node() const noexcept { return node_; }

 private:
  std::optional<int> node_;
  std::shared_ptr<ArrayAllocator> allocator_;
};

std::string repr(const NumpyAllocator& self) {
  const ArrayAllocatorStats stats = self.stats();
  return "<NumpyAllocator allocations=" + std::to_string(stats.allocations) + " frees=" + std::to_string(stats.frees) +
         " bytes_in_use=" + std::to_string(stats.bytes_in_use) + " peak_bytes=" + std::to_string(stats.peak_bytes) +
         " retained_bytes=" + std::to_string(stats.retained_bytes) + ">";
}

struct Field {
  const char* name;
  std::uint64_t ArrayAllocatorStats::*member;
  const char* doc;
};

constexpr Field fields[] = {
    {"allocations", &ArrayAllocatorStats::allocations, "Arrays that got memory."},
    {"frees", &ArrayAllocatorStats::frees, "Of them those that gave it back."},
    {"reallocations", &ArrayAllocatorStats::reallocations, "Arrays that changed their size (ndarray.resize)."},
    {"failures", &ArrayAllocatorStats::failures, "Requests that the system had no memory for."},
    {"reused", &ArrayAllocatorStats::reused,
     "Allocations and reallocations that got pages which another array had before."},
    {"bytes_in_use", &ArrayAllocatorStats::bytes_in_use, "In arrays now."},
    {"peak_bytes", &ArrayAllocatorStats::peak_bytes, "The most that was in arrays at once."},
    {"mapped_bytes", &ArrayAllocatorStats::mapped_bytes, "Mapped now for arrays from 1 MiB on, in use or kept."},
    {"retained_bytes", &ArrayAllocatorStats::retained_bytes, "Of mapped_bytes, what is kept for the next arrays."},
};

}  // namespace

void bind_numpy_allocator(py::module_& module) {
  py::class_<NumpyAllocator> type(module, "NumpyAllocator", docs::numpy_allocator);
  type.def(py::init<std::optional<int>, bool, Unsigned, Unsigned>(), py::kw_only(), "node"_a, "huge_pages"_a,
           "alignment"_a, "retain"_a)
      .def("_install", &NumpyAllocator::install, "Make it NumPy's in this context; returns the handler before.")
      .def("_finish", &NumpyAllocator::finish, "before"_a, "Put the handler before back and keep nothing from now on.")
      .def_property_readonly(
          "alignment", [](const NumpyAllocator& self) { return self.options().alignment; }, "Of every array.")
      .def_property_readonly("node", &NumpyAllocator::node, "Where arrays from 1 MiB on are wanted, or None.")
      .def_property_readonly(
          "huge_pages", [](const NumpyAllocator& self) { return self.options().huge_pages; },
          "Whether arrays from 1 MiB on ask for huge pages.")
      .def_property_readonly(
          "retain", [](const NumpyAllocator& self) { return self.options().retain; },
          "The most that is kept of freed arrays, in bytes.")
      .def("__repr__", &repr);
  for (const Field& field : fields) {
    type.def_property_readonly(
        field.name, [member = field.member](const NumpyAllocator& self) { return self.stats().*member; }, field.doc);
  }
}
