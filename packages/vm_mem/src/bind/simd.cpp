// vm_mem.simd: the functions that copy, fill and compare. They are plain CPython functions, because a copy of 64 bytes
// takes less time than one dispatch of pybind11.

#include <pybind11/pybind11.h>

#include <algorithm>
#include <optional>
#include <string>

#include "bind.hpp"
#include "simd_memory.hpp"
#include "simd_plan.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/simd/memcpy.hpp"
#include "vm/mem/simd/strided.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace vm::mem::simd;

namespace {

// Below that, giving up the GIL and getting it back takes longer than the copy.
constexpr std::size_t long_copy = std::size_t{1} << 16;

using Arguments = PyObject* const*;

/// The boundary that pybind11 draws around its own functions.
template <PyObject* (*function)(Arguments, Py_ssize_t, PyObject*)>
PyObject* guarded(PyObject* /*module*/, Arguments args, Py_ssize_t count, PyObject* names) {
  try {
    return function(args, count, names);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
  return nullptr;
}

void require_two(const char* function, Py_ssize_t count, const char* what) {
  if (count != 2)
    throw py::type_error(std::string(function) + "() takes two positional arguments, " + what + "; got " +
                         std::to_string(count));
}

bool overlap(const void* a, const void* b, std::size_t size) noexcept {
  const auto x = reinterpret_cast<std::uintptr_t>(a), y = reinterpret_cast<std::uintptr_t>(b);
  return x < y ? y - x < size : x - y < size;
}

std::string text_of(const std::vector<std::size_t>& shape) {
  std::string text = "(";
  for (const std::size_t count : shape) text += (text.size() == 1 ? "" : ", ") + std::to_string(count);
  return text + ")";
}

void require_equal_sizes(std::size_t dst, std::size_t src) {
  if (dst != src)
    throw vm::InvalidConfig("the destination has " + std::to_string(dst) + " bytes, the source " + std::to_string(src) +
                            "; give parts of equal size");
}

void copy_elements(const ArgumentMemory& dst, const ArgumentMemory& src, const CopyArguments& how, bool may_overlap) {
  if (dst.item() != src.item() || dst.shape() != src.shape())
    throw vm::InvalidConfig("the destination has shape " + text_of(dst.shape()) + " and elements of " +
                            std::to_string(dst.item()) + " bytes, the source " + text_of(src.shape()) + " and " +
                            std::to_string(src.item()) +
                            "; unless both are contiguous these have to be equal, so reshape or view one of them");
  const StridedCopy copy{dst.item(), dst.shape(), {dst.data(), dst.strides()}, {src.data(), src.strides()}};
  std::optional<py::gil_scoped_release> release;
  if (dst.size() >= long_copy) release.emplace();
  (may_overlap ? move_strided : copy_strided)(copy, how.options, *how.strategy);
}

void copy_memory(PyObject* to, PyObject* from, const CopyArguments& how, bool may_overlap) {
  const TwoMemories both(to, true, "the destination", from, "the source");
  const ArgumentMemory &dst = both.first(), &src = both.second();
  if (!dst.contiguous() || !src.contiguous()) return copy_elements(dst, src, how, may_overlap);
  require_equal_sizes(dst.size(), src.size());
  const bool overlapping = overlap(dst.data(), src.data(), dst.size());
  if (overlapping && !may_overlap)
    throw vm::InvalidConfig("the destination overlaps the source; memmove_fast copies such memory");
  std::optional<py::gil_scoped_release> release;
  if (dst.size() >= long_copy) release.emplace();
  if (overlapping) {
    how.strategy->move(dst.data(), src.data(), dst.size());
  } else {
    copy_parallel(dst.data(), src.data(), dst.size(), how.options, *how.strategy);
  }
}

template <bool may_overlap>
PyObject* copy(Arguments args, Py_ssize_t count, PyObject* names) {
  constexpr const char* function = may_overlap ? "memmove_fast" : "memcpy_fast";
  require_two(function, count, "the destination and the source");
  if (names == nullptr) {
    void *dst = nullptr, *src = nullptr;
    std::size_t dst_size = 0, src_size = 0;
    if (find_bytes(args[0], true, dst, dst_size) && find_bytes(args[1], false, src, src_size) && dst_size == src_size &&
        dst_size < long_copy && (may_overlap || !overlap(dst, src, dst_size))) {
      (may_overlap ? memmove_raw : memcpy_raw)(dst, src, dst_size);
      Py_RETURN_NONE;
    }
  }
  CopyArguments how;
  if (names != nullptr)
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i)
      how.set(PyTuple_GET_ITEM(names, i), args[count + i], function);
  copy_memory(args[0], args[1], how, may_overlap);
  Py_RETURN_NONE;
}

PyObject* fill(Arguments args, Py_ssize_t count, PyObject* /*names*/) {
  require_two("memset_fast", count, "the destination and the value of every byte");
  const long value = PyLong_AsLong(args[1]);
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  if (value < 0 || value > 255) throw vm::InvalidConfig("value is " + std::to_string(value) + "; a byte is 0 to 255");
  const ArgumentMemory dst(args[0], true, "the destination");
  dst.require_contiguous();
  std::optional<py::gil_scoped_release> release;
  if (dst.size() >= long_copy) release.emplace();
  memset_raw(dst.data(), static_cast<unsigned char>(value), dst.size());
  release.reset();
  Py_RETURN_NONE;
}

struct Difference {
  std::size_t at, a_size, b_size;
  int order;
};

Difference compare(Arguments args, Py_ssize_t count, const char* function) {
  require_two(function, count, "what to compare");
  const TwoMemories both(args[0], false, "the first argument", args[1], "the second argument");
  const ArgumentMemory &a = both.first(), &b = both.second();
  a.require_contiguous();
  b.require_contiguous();
  const std::size_t common = std::min(a.size(), b.size());
  std::optional<py::gil_scoped_release> release;
  if (common >= long_copy) release.emplace();
  const std::size_t at = mismatch_raw(a.data(), b.data(), common);
  int order = a.size() < b.size() ? -1 : a.size() > b.size() ? 1 : 0;
  if (at < common)
    order = static_cast<unsigned char*>(a.data())[at] < static_cast<unsigned char*>(b.data())[at] ? -1 : 1;
  release.reset();
  return {at, a.size(), b.size(), order};
}

PyObject* order_of(Arguments args, Py_ssize_t count, PyObject* /*names*/) {
  return PyLong_FromLong(compare(args, count, "memcmp_fast").order);
}

PyObject* first_difference(Arguments args, Py_ssize_t count, PyObject* /*names*/) {
  const Difference found = compare(args, count, "first_difference");
  if (found.order == 0) Py_RETURN_NONE;
  return PyLong_FromSize_t(found.at);
}

void copy_addresses(Unsigned dst, Unsigned src, Unsigned size) {
  memcpy_raw(reinterpret_cast<void*>(dst.value), reinterpret_cast<const void*>(src.value),
             static_cast<std::size_t>(size.value));
}

void copy_optimized(const py::object& to, const py::object& from, Unsigned size, const MemcpyStrategy& strategy) {
  const TwoMemories both(to.ptr(), true, "the destination", from.ptr(), "the source");
  const ArgumentMemory &dst = both.first(), &src = both.second();
  dst.require_contiguous();
  src.require_contiguous();
  const auto bytes = static_cast<std::size_t>(size.value);
  if (size.value > std::min(dst.size(), src.size()))
    throw vm::OutOfRange("a copy of " + std::to_string(size.value) + " bytes was asked for, but the destination has " +
                             std::to_string(dst.size()) + " and the source " + std::to_string(src.size()),
                         0, size.value);
  if (overlap(dst.data(), src.data(), bytes))
    throw vm::InvalidConfig("the destination overlaps the source; memmove_fast copies such memory");
  std::optional<py::gil_scoped_release> release;
  if (bytes >= long_copy) release.emplace();
  simd_memcpy_optimized(dst.data(), src.data(), bytes, strategy);
}

template <PyObject* (*function)(Arguments, Py_ssize_t, PyObject*)>
PyMethodDef with_keywords(const char* name, const char* doc) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&guarded<function>)),
          METH_FASTCALL | METH_KEYWORDS, doc};
}

template <PyObject* (*function)(Arguments, Py_ssize_t, PyObject*)>
PyObject* guarded_positional(PyObject* module, Arguments args, Py_ssize_t count) {
  return guarded<function>(module, args, count, nullptr);
}

template <PyObject* (*function)(Arguments, Py_ssize_t, PyObject*)>
PyMethodDef positional(const char* name, const char* doc) {
  return {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&guarded_positional<function>)), METH_FASTCALL,
          doc};
}

const char copy_doc[] =
    "memcpy_fast($module, dst, src, /, *, threads=1, hint=None, strategy=None)\n--\n\n"
    "Copy the memory of src to that of dst; both are arrays or anything with the buffer protocol.\n\n"
    "When both are contiguous their sizes in bytes have to be equal, and nothing else; otherwise elements are copied "
    "one by one, and their shapes and the sizes of their elements have to be equal. Values are never converted.\n\n"
    "threads: at most so many, 0 for one per CPU; small copies use fewer. hint: \"stream\" when nobody will read the "
    "copy soon. strategy: a MemcpyStrategy instead of the one for this machine.\n\n"
    "Releases the GIL from 64 KiB on; another thread that changes the memory meanwhile gives a mixture. Raises "
    "InvalidConfig for different sizes, for memory that overlaps (memmove_fast copies that) and for references to "
    "Python objects, AccessViolation when dst is read-only.";
const char move_doc[] =
    "memmove_fast($module, dst, src, /, *, threads=1, hint=None, strategy=None)\n--\n\n"
    "As memcpy_fast, and the memory may overlap: dst gets what src held before.\n\n"
    "Overlapping contiguous memory is copied by one thread; overlapping strided arrays go through memory of their "
    "size (ResourceExhausted when there is none).";
const char fill_doc[] =
    "memset_fast($module, dst, value, /)\n--\n\n"
    "Set every byte of contiguous memory to value, 0 to 255. Releases the GIL from 64 KiB on.";
const char order_doc[] =
    "memcmp_fast($module, a, b, /)\n--\n\n"
    "-1, 0 or 1: the order of the bytes of two contiguous memories, shorter ones first where one begins the other.\n\n"
    "Releases the GIL from 64 KiB on.";
const char difference_doc[] =
    "first_difference($module, a, b, /)\n--\n\n"
    "Offset of the first byte in which two contiguous memories differ, or None; where one begins the other, its "
    "size.\n\n"
    "Releases the GIL from 64 KiB on.";

PyMethodDef definitions[] = {
    with_keywords<copy<false>>("memcpy_fast", copy_doc),
    with_keywords<copy<true>>("memmove_fast", move_doc),
    positional<fill>("memset_fast", fill_doc),
    positional<order_of>("memcmp_fast", order_doc),
    positional<first_difference>("first_difference", difference_doc),
};

}  // namespace

void bind_simd(py::module_& module) {
  bind_simd_plan(module);
  for (PyMethodDef& definition : definitions) {
    PyObject* function = PyCFunction_NewEx(&definition, module.ptr(), nullptr);
    if (function == nullptr) throw py::error_already_set();
    module.attr(definition.ml_name) = py::reinterpret_steal<py::object>(function);
  }
  module.def("memcpy_raw", &copy_addresses, py::arg("dst"), py::arg("src"), py::arg("size"),
             py::call_guard<py::gil_scoped_release>(),
             "Copy size bytes between two addresses of this process (ndarray.ctypes.data and the like).\n\n"
             "Nothing is checked: wrong addresses end the process. The memory must not overlap.");
  module.def("simd_memcpy_optimized", &copy_optimized, py::arg("dst"), py::arg("src"), py::arg("size"),
             py::arg("strategy"),
             "Copy the first size bytes of contiguous memory after a MemcpyStrategy.\n\n"
             "Raises OutOfRange when either has fewer, and else what memcpy_fast raises.");
}
