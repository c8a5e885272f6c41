#include "translation_type.hpp"

#include <cstddef>

#include "vm/core/error.hpp"

namespace py = pybind11;
using vm::mem::paging::Translation;

namespace {

struct TranslationObject {
  PyObject ob_base;
  Translation value;
  vm::Privilege privilege;
};

PyTypeObject* translation_type = nullptr;
PyObject* access_members[8] = {};

// Without the GIL a shared list would need a lock that costs more than it saves.
#if defined(Py_GIL_DISABLED)
constexpr std::size_t free_list_capacity = 0;
#else
constexpr std::size_t free_list_capacity = 128;
#endif
TranslationObject* free_list[free_list_capacity + 1];
std::size_t free_count = 0;

TranslationObject* self_of(PyObject* object) { return reinterpret_cast<TranslationObject*>(object); }

void translation_dealloc(PyObject* object) {
  PyTypeObject* type = Py_TYPE(object);
  if (free_count < free_list_capacity) {
    free_list[free_count++] = self_of(object);
  } else {
    PyObject_Free(object);
  }
  Py_DECREF(type);  // instances own a reference to their heap type; PyObject_Init takes a new one
}

PyObject* get_vaddr(PyObject* o, void*) { return PyLong_FromUnsignedLongLong(self_of(o)->value.vaddr); }
PyObject* get_paddr(PyObject* o, void*) { return PyLong_FromUnsignedLongLong(self_of(o)->value.paddr); }
PyObject* get_page_size(PyObject* o, void*) { return PyLong_FromUnsignedLongLong(self_of(o)->value.page_size()); }
PyObject* get_level(PyObject* o, void*) { return PyLong_FromLong(self_of(o)->value.level); }
PyObject* get_user(PyObject* o, void*) {
  return PyBool_FromLong(vm::user_access(self_of(o)->value.rights) != vm::Access::none);
}
PyObject* get_access(PyObject* o, void*) {
  const TranslationObject* self = self_of(o);
  PyObject* member = access_member(vm::access_of(self->value.rights, self->privilege));
  Py_INCREF(member);
  return member;
}

PyObject* translation_repr(PyObject* object) {
  const TranslationObject* self = self_of(object);
  const std::string access = vm::to_string(vm::access_of(self->value.rights, self->privilege));
  const bool user = vm::user_access(self->value.rights) != vm::Access::none;
  return PyUnicode_FromFormat("Translation(vaddr=%s, paddr=%s, page_size=%s, access=%s, user=%s)",
                              vm::hex(self->value.vaddr).c_str(), vm::hex(self->value.paddr).c_str(),
                              vm::hex(self->value.page_size()).c_str(), access.c_str(), user ? "True" : "False");
}

bool equal(const TranslationObject& a, const TranslationObject& b) {
  return a.value.vaddr == b.value.vaddr && a.value.paddr == b.value.paddr && a.value.rights == b.value.rights &&
         a.value.size_log2 == b.value.size_log2 && a.value.level == b.value.level && a.privilege == b.privilege;
}

PyObject* translation_compare(PyObject* a, PyObject* b, int operation) {
  if (Py_TYPE(b) != translation_type || (operation != Py_EQ && operation != Py_NE)) Py_RETURN_NOTIMPLEMENTED;
  return PyBool_FromLong(equal(*self_of(a), *self_of(b)) == (operation == Py_EQ));
}

Py_hash_t translation_hash(PyObject* object) {
  const Translation& t = self_of(object)->value;
  const auto mixed = static_cast<Py_hash_t>((t.vaddr * 0x9E3779B97F4A7C15U) ^ t.paddr);
  return mixed == -1 ? -2 : mixed;  // -1 tells CPython of an error
}

PyGetSetDef translation_fields[] = {
    {"vaddr", get_vaddr, nullptr, "The virtual address that was asked for.", nullptr},
    {"paddr", get_paddr, nullptr, "The physical address it translates to, its offset in the page included.", nullptr},
    {"page_size", get_page_size, nullptr, "Bytes of the page that maps it.", nullptr},
    {"access", get_access, nullptr,
     "vm_core.Access: what the tables grant to the privilege that asked, all levels combined.", nullptr},
    {"user", get_user, nullptr, "True when the tables grant user code anything on this page.", nullptr},
    {"level", get_level, nullptr, "Level of the answering entry; 0 is the last-level table.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

const char translation_doc[] =
    "One successful translation, made by AddressSpace.translate(int). Immutable, hashable, comparable.";

PyType_Slot translation_slots[] = {{Py_tp_doc, const_cast<char*>(translation_doc)},
                                   {Py_tp_dealloc, reinterpret_cast<void*>(translation_dealloc)},
                                   {Py_tp_repr, reinterpret_cast<void*>(translation_repr)},
                                   {Py_tp_richcompare, reinterpret_cast<void*>(translation_compare)},
                                   {Py_tp_hash, reinterpret_cast<void*>(translation_hash)},
                                   {Py_tp_getset, translation_fields},
                                   {0, nullptr}};

PyType_Spec translation_spec = {"vm_mem.paging.Translation", sizeof(TranslationObject), 0,
                                Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, translation_slots};

}  // namespace

PyObject* access_member(vm::Access access) noexcept { return access_members[static_cast<unsigned>(access) & 7]; }

PyObject* new_translation(const Translation& translation, vm::Privilege privilege) noexcept {
  TranslationObject* self = free_count != 0
                                ? free_list[--free_count]
                                : static_cast<TranslationObject*>(PyObject_Malloc(sizeof(TranslationObject)));
  if (self == nullptr) return PyErr_NoMemory();
  PyObject* object = PyObject_Init(reinterpret_cast<PyObject*>(self), translation_type);
  self->value = translation;
  self->privilege = privilege;
  return object;
}

void bind_translation_type(py::module_& module) {
  const py::object access = py::module_::import("vm_core").attr("Access");
  for (unsigned rights = 0; rights < 8; ++rights) access_members[rights] = access(rights).release().ptr();
  auto type = py::reinterpret_steal<py::object>(PyType_FromSpec(&translation_spec));
  if (!type) throw py::error_already_set();
  type.attr("__match_args__") = py::make_tuple("vaddr", "paddr", "page_size", "access");
  translation_type = reinterpret_cast<PyTypeObject*>(py::object(type).release().ptr());
  module.attr("Translation") = type;
}
