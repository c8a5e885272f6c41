#include "translate_arguments.hpp"

#include <string>

#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using vm::Access;
using vm::Privilege;
using namespace vm::mem::paging;

namespace {

Engine engine_from(const std::string& name) {
  for (const Engine engine :
       {Engine::automatic, Engine::walk, Engine::leaf_cache, Engine::group_prefetch, Engine::avx2, Engine::avx512})
    if (name == to_string(engine)) return engine;
  throw vm::InvalidConfig("engine is '" + name +
                          "'; 'auto', 'walk', 'leaf_cache', 'group_prefetch', 'avx2' and 'avx512' exist");
}

Access access_from(PyObject* object) {
  const long value = PyLong_AsLong(object);
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  if (value < 0 || value > 7)
    throw vm::InvalidConfig("access is " + std::to_string(value) + "; it is a combination of vm_core.Access members");
  return static_cast<Access>(value);
}

unsigned threads_from(PyObject* object) {
  const long value = PyLong_AsLong(object);
  if (value == -1 && PyErr_Occurred()) throw py::error_already_set();
  if (value < 0 || value > 4096)
    throw vm::InvalidConfig("threads is " + std::to_string(value) + "; 0 means one per CPU, at most 4096 are possible");
  return static_cast<unsigned>(value);
}

// NumPy would make floats of [1, 2**63] and integers of [1.5]; a sequence is taken number by number instead.
py::array_t<std::uint64_t> addresses_from_sequence(const py::object& sequence) {
  const py::module_ numpy = py::module_::import("numpy");
  const auto numbers = py::reinterpret_borrow<py::array>(numpy.attr("asarray")(sequence, "dtype"_a = "O"));
  if (numbers.ndim() == 0)
    throw py::type_error("vaddr must be a whole number or an array of them, not " +
                         py::str(py::type::of(sequence).attr("__name__")).cast<std::string>());
  py::array_t<std::uint64_t> addresses(std::vector<py::ssize_t>(numbers.shape(), numbers.shape() + numbers.ndim()));
  std::uint64_t* to = addresses.mutable_data();
  for (const py::handle number : numbers.attr("flat")) {
    const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(number.ptr()));
    if (!index) throw py::error_already_set();
    *to++ = address_from(index.ptr());
  }
  return addresses;
}

}  // namespace

std::uint64_t address_from(PyObject* number) {
  const unsigned long long value = PyLong_AsUnsignedLongLong(number);
  if (value == static_cast<unsigned long long>(-1) && PyErr_Occurred()) {
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) throw py::error_already_set();
    PyErr_Clear();
    throw vm::InvalidConfig("vaddr is " + py::str(py::handle(number)).cast<std::string>() +
                            "; addresses are whole numbers from 0 to 2**64 - 1");
  }
  return value;
}

py::array_t<std::uint64_t> addresses_from(const py::object& object) {
  if (!py::isinstance<py::array>(object)) return addresses_from_sequence(object);
  const auto array = py::reinterpret_borrow<py::array>(object);
  const char kind = array.dtype().kind();
  if (kind != 'u' && kind != 'i')
    throw py::type_error("addresses must be an array of integers, not of " +
                         py::str(array.dtype()).cast<std::string>());
  if (kind == 'i' && array.size() != 0 && array.attr("min")().cast<std::int64_t>() < 0)
    throw vm::InvalidConfig("the array has negative addresses; use uint64, or array.view('u8') to keep the bits");
  return array.attr("astype")(py::dtype::of<std::uint64_t>(), "order"_a = "C", "copy"_a = false);
}

bool no_signal_pending() {
  const py::gil_scoped_acquire acquire;
  return PyErr_CheckSignals() == 0;
}

void TranslateArguments::set(PyObject* name, PyObject* value) {
  if (PyUnicode_CompareWithASCIIString(name, "access") == 0) {
    request.access = access_from(value);
  } else if (PyUnicode_CompareWithASCIIString(name, "user") == 0) {
    const int truth = PyObject_IsTrue(value);
    if (truth < 0) throw py::error_already_set();
    request.privilege = truth != 0 ? Privilege::user : Privilege::supervisor;
  } else if (PyUnicode_CompareWithASCIIString(name, "engine") == 0) {
    request.engine = engine_from(py::handle(value).cast<std::string>());
  } else if (PyUnicode_CompareWithASCIIString(name, "threads") == 0) {
    request.threads = threads_from(value);
  } else {
    throw py::type_error("translate() has no argument '" + py::handle(name).cast<std::string>() +
                         "'; access, user, engine and threads exist");
  }
}
