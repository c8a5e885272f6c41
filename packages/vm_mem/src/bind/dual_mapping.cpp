// DualMapping for Python.

#include "vm/mem/pages/dual_mapping.hpp"

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "bind.hpp"
#include "pages_docs.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace py::literals;
using vm::mem::DualMapping;

namespace {

/// One that can be closed, and whose writers and sealers wait for each other. Nobody takes the GIL under the lock.
class ClosableMapping {
 public:
  explicit ClosableMapping(Unsigned size) : size_(size.value), mapping_(std::make_unique<DualMapping>(size.value)) {}

  template <class Use>
  auto use(Use action) {
    const std::lock_guard lock(mutex_);
    if (mapping_ == nullptr) throw vm::ClosedError("this mapping was closed; make another one");
    return action(*mapping_);
  }
  void close() noexcept {
    const std::lock_guard lock(mutex_);
    mapping_.reset();
  }
  bool closed() {
    const std::lock_guard lock(mutex_);
    return mapping_ == nullptr;
  }
  std::uint64_t size() const noexcept { return size_; }

 private:
  std::uint64_t size_;
  std::mutex mutex_;
  std::unique_ptr<DualMapping> mapping_;
};

void write_code(ClosableMapping& self, Unsigned offset, const py::object& code) {
  Py_buffer buffer;
  if (PyObject_GetBuffer(code.ptr(), &buffer, PyBUF_SIMPLE) != 0) throw py::error_already_set();
  const std::unique_ptr<Py_buffer, void (*)(Py_buffer*)> releaser(&buffer, PyBuffer_Release);
  const py::gil_scoped_release release;  // the copy, and the lock that another copy may have
  self.use(
      [&](DualMapping& mapping) { mapping.write(offset.value, buffer.buf, static_cast<std::uint64_t>(buffer.len)); });
}

std::string repr(ClosableMapping& self) {
  if (self.closed()) return "<DualMapping closed>";
  return self.use([](DualMapping& mapping) {
    return "<DualMapping " + std::to_string(mapping.size()) + " bytes, executable at " +
           vm::hex(reinterpret_cast<std::uintptr_t>(mapping.executable())) + (mapping.sealed() ? ", sealed>" : ">");
  });
}

}  // namespace

void bind_dual_mapping(py::module_& module) {
  py::class_<ClosableMapping>(module, "DualMapping", docs::dual)
      .def(py::init<Unsigned>(), "size"_a)
      .def_property_readonly("size", &ClosableMapping::size, "Bytes.")
      .def_property_readonly(
          "executable_address",
          [](ClosableMapping& self) {
            return self.use([](DualMapping& m) { return reinterpret_cast<std::uintptr_t>(m.executable()); });
          },
          "Where the code runs; for ctypes.CFUNCTYPE(...)(address).")
      .def_property_readonly(
          "writable_address",
          [](ClosableMapping& self) -> py::object {
            return self.use([](DualMapping& m) -> py::object {
              if (m.sealed()) return py::none();
              return py::int_(reinterpret_cast<std::uintptr_t>(m.writable()));
            });
          },
          "Where the code can be written; None after seal().")
      .def("write", &write_code, "offset"_a, "code"_a, docs::dual_write)
      .def(
          "seal", [](ClosableMapping& self) { self.use([](DualMapping& m) { m.seal(); }); }, docs::dual_seal)
      .def_property_readonly(
          "sealed", [](ClosableMapping& self) { return self.use([](DualMapping& m) { return m.sealed(); }); },
          "Whether seal() was called.")
      .def("close", &ClosableMapping::close, "Unmap both views; more than once is once.")
      .def_property_readonly("closed", &ClosableMapping::closed, "Whether close() was called.")
      .def("__enter__", [](const py::object& self) { return self; })
      .def("__exit__", [](ClosableMapping& self, const py::args&) { self.close(); })
      .def("__repr__", &repr);
}
