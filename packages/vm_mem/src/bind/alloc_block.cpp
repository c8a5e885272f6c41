// Block, and arrays over it.

#include "alloc_block.hpp"

#include <limits>
#include <string>
#include <utility>

#include "bind.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace py::literals;

namespace {

constexpr std::int64_t freed_mark = std::numeric_limits<std::int64_t>::min() / 2;

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  try {
    auto& block = py::handle(self).cast<Block&>();
    block.look();
    const int failed = PyBuffer_FillInfo(view, self, block.data(), static_cast<Py_ssize_t>(block.size()), 0, flags);
    if (failed != 0) block.look_away();
    return failed;
  } catch (const vm::ClosedError& error) {
    view->obj = nullptr;
    PyErr_SetString(PyExc_BufferError, error.what());
    return -1;
  }
}

void release_buffer(PyObject* self, Py_buffer*) { py::handle(self).cast<Block&>().look_away(); }

void give_buffers(PyHeapTypeObject* type) {
  type->ht_type.tp_as_buffer = &type->as_buffer;
  type->as_buffer.bf_getbuffer = &get_buffer;
  type->as_buffer.bf_releasebuffer = &release_buffer;
}

/// One number of a shape. Throws what Python raises for an index that is none.
py::ssize_t extent_of(const py::handle& wanted) {
  const py::ssize_t extent = PyNumber_AsSsize_t(wanted.ptr(), PyExc_ValueError);
  if (extent == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return extent;
}

py::object array_of(const py::object& self, const py::object& dtype) {
  return py::module_::import("numpy").attr("frombuffer")(self, "dtype"_a = dtype);
}

std::string repr(const Block& self) {
  const std::string where = " at " + vm::hex(reinterpret_cast<std::uintptr_t>(self.data()));
  return "<Block of " + std::to_string(self.size()) + " bytes" + (self.freed() ? ", freed>" : where + ">");
}

}  // namespace

Block::~Block() {
  if (freed()) return;
  try {
    release_();
  } catch (const std::exception& error) {
    // What hardening finds here has no caller to go to.
    const py::gil_scoped_acquire acquire;
    PyErr_SetString(PyExc_RuntimeError, error.what());
    PyErr_WriteUnraisable(nullptr);
  }
}

void Block::free() {
  std::int64_t views = 0;
  // Acquire: pairs with the releases of look_away, whose views have been written through.
  if (views_.compare_exchange_strong(views, freed_mark, std::memory_order_acq_rel, std::memory_order_acquire)) {
    const std::function<void()> release = std::exchange(release_, nullptr);
    return release();
  }
  if (views < 0) throw vm::DoubleFree("this block of " + std::to_string(size_) + " bytes is free already");
  throw py::buffer_error(std::to_string(views) +
                         " views of this block are in use; delete arrays and memoryviews first");
}

void Block::look() {
  std::int64_t views = views_.load(std::memory_order_relaxed);
  do {
    if (views < 0) throw vm::ClosedError("this block of " + std::to_string(size_) + " bytes was freed");
  } while (!views_.compare_exchange_weak(views, views + 1, std::memory_order_acquire, std::memory_order_relaxed));
}

ArrayRequest::ArrayRequest(const py::object& wanted, const py::object& dtype) : type(py::dtype::from_args(dtype)) {
  constexpr std::uint64_t has_object = 1;  // NPY_ITEM_HASOBJECT
  if ((type.flags() & has_object) != 0) {
    throw vm::InvalidConfig("memory of an allocator holds no Python objects; choose another dtype than " +
                            py::repr(type).cast<std::string>());
  }
  if (py::isinstance<py::sequence>(wanted)) {
    for (const py::handle each : wanted) shape.push_back(extent_of(each));
  } else {
    shape.push_back(extent_of(wanted));
  }
  bytes = static_cast<std::size_t>(type.itemsize());
  for (const py::ssize_t extent : shape) {
    if (extent < 0 || (extent > 0 && bytes > static_cast<std::size_t>(PY_SSIZE_T_MAX / extent))) {
      throw vm::InvalidConfig("no array has the shape " + py::repr(wanted).cast<std::string>());
    }
    bytes *= static_cast<std::size_t>(extent);
  }
}

py::object array_over(std::unique_ptr<Block> block, const ArrayRequest& request) {
  Block& seen = *block;
  const py::object owner = py::cast(std::move(block));
  seen.look();  // for good: whoever gets at the block through the array must not free it
  return py::array(request.type, request.shape, seen.data(), owner);
}

void bind_alloc_block(py::module_& module) {
  py::class_<Block> type(
      module, "Block",
      "Memory of an allocator, with the buffer protocol; not initialized.\n\n"
      "It goes back by free(), at the end of a `with`, or when Python forgets the block; memoryviews and "
      "arrays over it keep it. It keeps its allocator. Thread-safe, but for what is done with the bytes.",
      py::custom_type_setup(give_buffers));
  type.def("free", &Block::free,
           "Give the memory back.\n\nRaises DoubleFree when that was done, BufferError while there are views of it, "
           "and what the allocator's hardening finds.")
      .def("array", &array_of, "dtype"_a = "uint8",
           "A one-dimensional array over the bytes, of as many items as fit; it keeps the block.\n\nRaises ValueError "
           "when the bytes are no whole number of items.")
      .def_property_readonly("size", &Block::size, "Bytes.")
      .def_property_readonly(
          "address", [](const Block& self) { return reinterpret_cast<std::uintptr_t>(self.data()); },
          "Host-virtual address.")
      .def_property_readonly("freed", &Block::freed, "Whether the memory went back.")
      .def("__len__", &Block::size)
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__",
           [](Block& self, const py::args&) {
             if (!self.freed()) self.free();
           })
      .def("__repr__", &repr);
#if PY_VERSION_HEX < 0x030c0000
  // Newer Pythons make it themselves of the slot, and would make a slot of this (PEP 688).
  type.def(
      "__buffer__", [](const py::object& self, int) { return py::memoryview(self); }, "flags"_a, py::pos_only());
#endif
}
