#pragma once
/// \file
/// `translate` of AddressSpace and Mmu as a plain CPython method, because a scalar translation must not cost several
/// dispatches of pybind11.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "in_use.hpp"
#include "touch.hpp"
#include "translate_arguments.hpp"
#include "translation_array.hpp"
#include "translation_type.hpp"

/// The page tables that a translator's results refer to.
template <class Translator>
std::shared_ptr<const vm::mem::paging::AddressSpace> space_of(const std::shared_ptr<Translator>& translator) {
  if constexpr (std::is_same_v<Translator, vm::mem::paging::AddressSpace>)
    return translator;
  else
    return translator->space();
}

template <class Translator>
TranslationArray translate_array(const std::shared_ptr<Translator>& translator, const pybind11::object& vaddrs,
                                 vm::mem::paging::BatchRequest request) {
  namespace py = pybind11;
  const py::array_t<std::uint64_t> vaddr = addresses_from(vaddrs);
  const std::vector<py::ssize_t> shape(vaddr.shape(), vaddr.shape() + vaddr.ndim());
  py::array_t<std::uint64_t> paddr(shape);
  py::array_t<vm::mem::paging::PackedInfo> info(shape);
  request.keep_going = no_signal_pending;
  const std::uint64_t* from = vaddr.data();
  std::uint64_t* to = paddr.mutable_data();
  vm::mem::paging::PackedInfo* facts = info.mutable_data();
  const auto count = static_cast<std::size_t>(vaddr.size());
  const InUse<Translator> use(*translator);
  {
    const py::gil_scoped_release release;
    const TouchGuard touching(*translator->memory());
    translator->translate(from, count, to, facts, request);
  }
  if (PyErr_Occurred()) throw py::error_already_set();
  return {space_of(translator), vaddr, paddr, info, request.access, request.privilege};
}

template <class Translator>
vm::mem::paging::Translation translate_one(Translator& translator, std::uint64_t vaddr,
                                           const vm::mem::paging::BatchRequest& request) {
  const CallGuard<Translator> guard(translator);
  return translator.translate(vm::GuestVirtual{vaddr}, request.access, request.privilege);
}

template <class Translator>
PyObject* translate_checked(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  namespace py = pybind11;
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  const auto holder = instance->get_value_and_holder();
  if (holder.value_ptr<Translator>() == nullptr)
    throw py::type_error(std::string(Py_TYPE(self)->tp_name) + ".__init__() was not called");
  if (count != 1)
    throw py::type_error("translate() takes one positional argument, the address or array of addresses; got " +
                         std::to_string(count));
  TranslateArguments arguments;
  if (names != nullptr)
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) arguments.set(PyTuple_GET_ITEM(names, i), args[count + i]);
  const vm::mem::paging::BatchRequest& request = arguments.request;

  PyObject* vaddr = args[0];
  const bool exact = PyLong_CheckExact(vaddr) != 0;
  if (!exact && (py::isinstance<py::array>(vaddr) || !PyIndex_Check(vaddr))) {
    const auto translator = py::cast<std::shared_ptr<Translator>>(py::handle(self));
    return py::cast(translate_array(translator, py::reinterpret_borrow<py::object>(vaddr), request)).release().ptr();
  }
  std::uint64_t address = 0;
  if (exact) {
    address = address_from(vaddr);
  } else {
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(vaddr));
    if (!number) throw py::error_already_set();
    address = address_from(number.ptr());
  }
  Translator& translator = *holder.value_ptr<Translator>();
  return new_translation(translate_one(translator, address, request), request.privilege);
}

/// The boundary that pybind11 draws around its own functions.
template <class Translator>
PyObject* translate_guarded(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  try {
    return translate_checked<Translator>(self, args, count, names);
  } catch (pybind11::error_already_set& error) {
    error.restore();
  } catch (...) {
    pybind11::detail::try_translate_exceptions();
  }
  return nullptr;
}

/// `doc` must live as long as the interpreter.
template <class Translator>
PyMethodDef translate_method(const char* doc) {
  return {"translate", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(&translate_guarded<Translator>)),
          METH_FASTCALL | METH_KEYWORDS, doc};
}

/// `definition` must live as long as the interpreter.
inline void add_method(pybind11::handle type, PyMethodDef& definition) {
  PyObject* method = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &definition);
  if (method == nullptr) throw pybind11::error_already_set();
  type.attr(definition.ml_name) = pybind11::reinterpret_steal<pybind11::object>(method);
}
