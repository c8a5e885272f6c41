#include "simd_memory.hpp"

#include <pybind11/numpy.h>

#include <cstring>
#include <string>

#include "vm/core/error.hpp"

namespace py = pybind11;

namespace {

using py::detail::npy_api;

constexpr std::uint64_t holds_references = 0x01;  // NPY_ITEM_REFCOUNT

// Before anybody has imported NumPy there are no arrays, and a copy of bytes must not import it.
bool is_array(PyObject* object) {
  static_assert(sizeof(py::ssize_t) == sizeof(std::ptrdiff_t));
  for (PyTypeObject* type = Py_TYPE(object); type != nullptr; type = type->tp_base)
    if (std::strcmp(type->tp_name, "numpy.ndarray") == 0) return npy_api::get().PyArray_Check_(object);
  return false;
}

// A format of the struct module, extended by PEP 3118; names of fields stand between colons.
bool has_references(const char* format) {
  bool in_name = false;
  for (; *format != '\0'; ++format) {
    if (*format == ':') in_name = !in_name;
    if (!in_name && *format == 'O') return true;
  }
  return false;
}

}  // namespace

ArgumentMemory::ArgumentMemory(PyObject* object, bool writable, const char* role) : role_(role) {
  if (is_array(object)) {
    take_array(object, writable);
  } else {
    take_buffer(object, writable);
  }
}

ArgumentMemory::~ArgumentMemory() {
  if (view_.obj != nullptr) PyBuffer_Release(&view_);
}

void ArgumentMemory::take_array(PyObject* object, bool writable) {
  array_ = py::reinterpret_borrow<py::object>(object);
  const py::detail::PyArray_Proxy* array = py::detail::array_proxy(object);
  const auto type = py::reinterpret_borrow<py::dtype>(array->descr);
  if ((type.flags() & holds_references) != 0)
    throw vm::InvalidConfig(std::string(role_) + " has elements of dtype " + py::str(type).cast<std::string>() +
                            ", which refer to Python objects; NumPy's copyto copies those");
  require_writable(writable, (array->flags & npy_api::NPY_ARRAY_WRITEABLE_) != 0);
  data_ = array->data;
  item_ = static_cast<std::size_t>(type.itemsize());
  size_ = item_;
  for (int axis = 0; axis < array->nd; ++axis) size_ *= static_cast<std::size_t>(array->dimensions[axis]);
  contiguous_ = (array->flags & npy_api::NPY_ARRAY_C_CONTIGUOUS_) != 0;
  axes_ = array->nd;
  shape_ = array->dimensions;
  strides_ = array->strides;
}

void ArgumentMemory::take_buffer(PyObject* object, bool writable) {
  if (PyObject_GetBuffer(object, &view_, PyBUF_RECORDS_RO) != 0) throw py::error_already_set();
  try {
    if (view_.format != nullptr && has_references(view_.format))
      throw vm::InvalidConfig(std::string(role_) + " has elements of format '" + view_.format +
                              "', which refer to Python objects; they cannot be copied as bytes");
    require_writable(writable, view_.readonly == 0);
  } catch (...) {
    PyBuffer_Release(&view_);
    throw;
  }
  data_ = view_.buf;
  size_ = static_cast<std::size_t>(view_.len);
  item_ = static_cast<std::size_t>(view_.itemsize);
  contiguous_ = PyBuffer_IsContiguous(&view_, 'C') != 0;
  axes_ = view_.ndim;
  shape_ = view_.shape;
  strides_ = view_.strides;
}

void ArgumentMemory::require_writable(bool writable, bool is) const {
  if (writable && !is)
    throw vm::AccessViolation(std::string(role_) + " is read-only memory; give a bytearray, a writable array or view");
}

std::vector<std::ptrdiff_t> ArgumentMemory::strides() const {
  if (strides_ != nullptr) return {strides_, strides_ + axes_};
  std::vector<std::ptrdiff_t> strides(static_cast<std::size_t>(axes_));
  auto distance = static_cast<std::ptrdiff_t>(item_);
  for (std::size_t axis = strides.size(); axis-- > 0; distance *= shape_[axis]) strides[axis] = distance;
  return strides;
}

void ArgumentMemory::require_contiguous() const {
  if (!contiguous_)
    throw vm::InvalidConfig(std::string(role_) +
                            " has elements that do not lie side by side; memcpy_fast and "
                            "memmove_fast take such arrays");
}

TwoMemories::TwoMemories(PyObject* first, bool writable, const char* first_role, PyObject* second,
                         const char* second_role) {
  const bool second_is_first = is_array(first);
  if (second_is_first) second_.emplace(second, false, second_role);
  first_.emplace(first, writable, first_role);
  if (!second_is_first) second_.emplace(second, false, second_role);
}

bool find_bytes(PyObject* object, bool writable, void*& data, std::size_t& size) noexcept {
  // With the GIL nobody can resize, release or free them before it is given up.
#if !defined(Py_GIL_DISABLED)
  if (PyByteArray_CheckExact(object)) {
    data = PyByteArray_AS_STRING(object);
    size = static_cast<std::size_t>(PyByteArray_GET_SIZE(object));
    return true;
  }
#endif
#if !defined(Py_GIL_DISABLED) && defined(_Py_MEMORYVIEW_RELEASED)
  if (PyMemoryView_Check(object)) {  // a final class
    const auto* view = reinterpret_cast<const PyMemoryViewObject*>(object);
    const bool released =
        (view->flags & _Py_MEMORYVIEW_RELEASED) != 0 || (view->mbuf->flags & _Py_MANAGED_BUFFER_RELEASED) != 0;
    const char* format = view->view.format;
    const bool plain = format == nullptr || std::strcmp(format, "B") == 0;
    if (released || !plain || (view->flags & _Py_MEMORYVIEW_C) == 0 || (writable && view->view.readonly != 0))
      return false;
    data = view->view.buf;
    size = static_cast<std::size_t>(view->view.len);
    return true;
  }
#endif
  if (PyBytes_CheckExact(object)) {
    data = PyBytes_AS_STRING(object);
    size = static_cast<std::size_t>(PyBytes_GET_SIZE(object));
    return !writable;
  }
#if !defined(Py_GIL_DISABLED)
  if (std::strcmp(Py_TYPE(object)->tp_name, "numpy.ndarray") == 0) {
    try {
      if (Py_TYPE(object) != npy_api::get().PyArray_Type_) return false;
    } catch (...) {  // somebody's own type of that name, and no NumPy
      return false;
    }
    const py::detail::PyArray_Proxy* array = py::detail::array_proxy(object);
    const int wanted = npy_api::NPY_ARRAY_C_CONTIGUOUS_ | (writable ? npy_api::NPY_ARRAY_WRITEABLE_ : 0);
    // Numbers of C, none of which refers to anything.
    const int type = py::detail::array_descriptor_proxy(array->descr)->type_num;
    if ((array->flags & wanted) != wanted || type < 0 || type >= npy_api::NPY_OBJECT_) return false;
    data = array->data;
    size = static_cast<std::size_t>(py::reinterpret_borrow<py::dtype>(array->descr).itemsize());
    for (int axis = 0; axis < array->nd; ++axis) size *= static_cast<std::size_t>(array->dimensions[axis]);
    return true;
  }
#endif
  return false;
}
