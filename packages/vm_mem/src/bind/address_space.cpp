// AddressSpace. `translate` is a plain CPython method, because a scalar translation must not cost several dispatches;
// everything else goes through pybind11.

#include "vm/mem/paging/address_space.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <exception>
#include <memory>
#include <optional>
#include <string>

#include "bind.hpp"
#include "paging_config.hpp"
#include "translation_array.hpp"
#include "translation_type.hpp"
#include "vm/core/error.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::paging;
using vm::Access;
using vm::Privilege;

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

// A contiguous uint64 array of the same shape, without a copy when it already is one.
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

// True while no signal handler has raised. Called from work that released the GIL.
bool no_signal_pending() {
  const py::gil_scoped_acquire acquire;
  return PyErr_CheckSignals() == 0;
}

TranslationArray translate_array(const std::shared_ptr<AddressSpace>& space, const py::object& vaddrs,
                                 BatchRequest request) {
  const py::array_t<std::uint64_t> vaddr = addresses_from(vaddrs);
  const std::vector<py::ssize_t> shape(vaddr.shape(), vaddr.shape() + vaddr.ndim());
  py::array_t<std::uint64_t> paddr(shape);
  py::array_t<PackedInfo> info(shape);
  request.keep_going = no_signal_pending;
  const std::uint64_t* from = vaddr.data();
  std::uint64_t* to = paddr.mutable_data();
  PackedInfo* facts = info.mutable_data();
  const auto count = static_cast<std::size_t>(vaddr.size());
  {
    const py::gil_scoped_release release;
    space->translate(from, count, to, facts, request);
  }
  if (PyErr_Occurred()) throw py::error_already_set();
  return {space, vaddr, paddr, info, request.access, request.privilege};
}

// Arguments of `translate` after the address.
struct TranslateArguments {
  BatchRequest request;
  bool explicit_engine = false;

  void set(PyObject* name, PyObject* value) {
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
};

PyObject* translate_checked(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  const auto holder = instance->get_value_and_holder();
  if (holder.value_ptr<AddressSpace>() == nullptr) throw py::type_error("AddressSpace.__init__() was not called");
  if (count != 1)
    throw py::type_error("translate() takes one positional argument, the address or array of addresses; got " +
                         std::to_string(count));
  TranslateArguments arguments;
  if (names != nullptr)
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) arguments.set(PyTuple_GET_ITEM(names, i), args[count + i]);
  const BatchRequest& request = arguments.request;

  PyObject* vaddr = args[0];
  const bool exact = PyLong_CheckExact(vaddr) != 0;
  if (!exact && (py::isinstance<py::array>(vaddr) || !PyIndex_Check(vaddr))) {
    const auto space = py::cast<std::shared_ptr<AddressSpace>>(py::handle(self));
    return py::cast(translate_array(space, py::reinterpret_borrow<py::object>(vaddr), request)).release().ptr();
  }
  std::uint64_t address = 0;
  if (exact) {
    address = address_from(vaddr);
  } else {
    const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(vaddr));
    if (!number) throw py::error_already_set();
    address = address_from(number.ptr());
  }
  const AddressSpace& space = *holder.value_ptr<AddressSpace>();
  return new_translation(space.translate(vm::GuestVirtual{address}, request.access, request.privilege),
                         request.privilege);
}

// The boundary that pybind11 draws around its own functions.
PyObject* translate_method(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  try {
    return translate_checked(self, args, count, names);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (...) {
    py::detail::try_translate_exceptions();
  }
  return nullptr;
}

const char translate_doc[] =
    "translate($self, vaddr, /, *, access=Access.READ, user=False, engine='auto', threads=1)\n--\n\n"
    "Translate one virtual address or an array of them.\n\n"
    "vaddr: an int gives a Translation and raises PageFault when it does not translate; an array of integers of any "
    "shape gives a TranslationArray of that shape with a fault for each element that does not.\n"
    "access: the rights wanted, all at once; Access.NONE looks the address up without permission checks. user: ask as "
    "user code, else as supervisor.\n"
    "engine: how an array is computed: 'auto' picks by the addresses and this processor, the others ('walk', "
    "'leaf_cache', 'group_prefetch', 'avx2', 'avx512') are for tests and measurements; the answers are the same. "
    "threads: at most so many, 0 for one per CPU.\n\n"
    "Thread-safe with other translations; arrays release the GIL. Raises NotSupported for an engine that this machine "
    "or format lacks, ClosedError when the memory is closed.";

PyMethodDef translate_definition = {"translate",
                                    reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(translate_method)),
                                    METH_FASTCALL | METH_KEYWORDS, translate_doc};

std::optional<TableRange> tables_from(const py::object& tables) {
  if (tables.is_none()) return std::nullopt;
  const auto start = tables.attr("start").cast<std::uint64_t>();
  const auto stop = tables.attr("stop").cast<std::uint64_t>();
  if (tables.attr("step").cast<std::int64_t>() != 1 || stop <= start)
    throw vm::InvalidConfig("tables is " + py::repr(tables).cast<std::string>() +
                            "; it must be a range of physical addresses, range(first, beyond_last)");
  return TableRange{start, stop - 1};
}

py::object tables_to_python(const AddressSpace& space) {
  const auto& tables = space.options().tables;
  if (!tables) return py::none();
  return py::module_::import("builtins").attr("range")(tables->first, py::int_(tables->last) + py::int_(1));
}

py::object mappings(const AddressSpace& space, std::uint64_t start, const py::object& stop, bool merge,
                    std::uint64_t limit) {
  EnumerateOptions options;
  options.first = start;
  options.merge = merge;
  options.limit = limit;
  const py::object beyond = stop.is_none() ? py::int_(1).attr("__lshift__")(64) : stop;
  const py::object last = beyond - py::int_(1);
  std::vector<Mapping> found;
  if (beyond > py::int_(start)) {
    options.last = last.cast<std::uint64_t>();
    const py::gil_scoped_release release;
    found = space.mappings(options, no_signal_pending);
  }
  if (PyErr_Occurred()) throw py::error_already_set();
  const py::module_ face = py::module_::import("vm_mem.mapping");
  py::array array(py::dtype::from_args(face.attr("MAPPING_DTYPE")), static_cast<py::ssize_t>(found.size()),
                  found.data());
  return face.attr("Mappings")(array);
}

void map(AddressSpace& space, std::uint64_t vaddr, std::uint64_t paddr, std::uint64_t size, Access access, bool user,
         std::optional<std::uint64_t> page_size) {
  space.map({vaddr, paddr, size, access, user, page_size});
}

std::vector<std::string> engine_names(const AddressSpace& space) {
  std::vector<std::string> names;
  for (const Engine engine : space.engines()) names.emplace_back(to_string(engine));
  return names;
}

std::string choose_engine(const AddressSpace& space, const py::object& vaddrs, Access access, bool user) {
  const py::array_t<std::uint64_t> vaddr = addresses_from(vaddrs);
  BatchRequest request;
  request.access = access;
  request.privilege = user ? Privilege::user : Privilege::supervisor;
  return to_string(space.choose_engine(vaddr.data(), static_cast<std::size_t>(vaddr.size()), request));
}

}  // namespace

void bind_address_space(py::module_& module) {
  const py::arg_v read_access("access", Access::read, "vm_core.Access.READ");
  py::class_<AddressSpace, py::smart_holder> type(
      module, "AddressSpace",
      "One set of page tables in one guest memory: translate addresses, list mappings, change them.\n\n"
      "memory: GuestMemory that holds the tables; config: X86, RiscV or AArch64. tables: range of physical addresses "
      "for new tables; without it they come from the top of the last writable region downwards, and only frames that "
      "are all zero are taken. update_accessed_dirty: translations set the A and D flags that the processor would "
      "set.\n\n"
      "Translations and listings may run in any number of threads at once. map, unmap and protect of one object wait "
      "for "
      "each other; a translation beside them sees old or new entries.");
  type.def(py::init([](std::shared_ptr<vm::mem::GuestMemory> memory, const py::object& config, const py::object& tables,
                       bool update_accessed_dirty) {
             return std::make_shared<AddressSpace>(std::move(memory), paging_config_from(config),
                                                   AddressSpaceOptions{tables_from(tables), update_accessed_dirty});
           }),
           "memory"_a, "config"_a, py::kw_only(), "tables"_a = py::none(), "update_accessed_dirty"_a = false)
      .def_property_readonly("memory", &AddressSpace::memory, "The GuestMemory that holds the tables.")
      .def_property_readonly(
          "config", [](const AddressSpace& self) { return paging_config_to_python(self.config()); },
          "The X86, RiscV or AArch64 given.")
      .def_property_readonly("tables", &tables_to_python, "Where new tables are taken from, or None for the default.")
      .def_property_readonly(
          "update_accessed_dirty", [](const AddressSpace& self) { return self.options().update_accessed_dirty; },
          "True when translations set A and D flags.")
      .def_property_readonly("engines", &engine_names, "Names of the batch engines that can run here.")
      .def("choose_engine", &choose_engine, "vaddrs"_a, py::kw_only(), read_access, "user"_a = false,
           "The engine that translate(vaddrs) would pick.")
      .def("mappings", &mappings, "start"_a = 0, "stop"_a = py::none(), py::kw_only(), "merge"_a = true,
           "limit"_a = EnumerateOptions{}.limit,
           "List what is mapped in [start, stop), in ascending order, as Mappings.\n\n"
           "merge joins pages that continue each other with equal rights and page size. More than limit mappings, or "
           "tables read, is ResourceExhausted: tables that point at themselves can describe 2**36 pages.")
      .def("map", &map, "vaddr"_a, "paddr"_a, "size"_a, "access"_a = Access::read | Access::write, "user"_a = false,
           "page_size"_a = py::none(), py::call_guard<py::gil_scoped_release>(),
           "Map size bytes at vaddr to paddr.\n\n"
           "page_size: bytes of each page; without it the largest that fit. Rights that the format cannot withhold "
           "(x86: read, and without NX execute) are granted too. All or nothing: InvalidConfig for bad alignment or a "
           "range that is already mapped, ResourceExhausted when no frame for a table is left.")
      .def("unmap", &AddressSpace::unmap, "vaddr"_a, "size"_a, py::call_guard<py::gil_scoped_release>(),
           "Remove the mappings in a range and return how many bytes were mapped.\n\n"
           "Larger pages are split at the ends of the range, tables that become empty are freed; holes are fine. All "
           "or nothing.")
      .def("protect", &AddressSpace::protect, "vaddr"_a, "size"_a, "access"_a, "user"_a = py::none(),
           py::call_guard<py::gil_scoped_release>(),
           "Change the rights of a mapped range; user=None keeps each page's privilege.\n\n"
           "PageFault for the first hole. All or nothing.")
      .def("__repr__", [](const AddressSpace& self) { return "AddressSpace(" + describe(self.config()) + ")"; });
  PyObject* translate = PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &translate_definition);
  if (translate == nullptr) throw py::error_already_set();
  type.attr("translate") = py::reinterpret_steal<py::object>(translate);
}
