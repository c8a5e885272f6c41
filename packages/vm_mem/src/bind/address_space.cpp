// AddressSpace. `translate` is a plain CPython method, because a scalar translation must not cost several dispatches;
// everything else goes through pybind11.

#include "vm/mem/paging/address_space.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <string>

#include "bind.hpp"
#include "paging_config.hpp"
#include "touch.hpp"
#include "translate_call.hpp"
#include "vm/core/error.hpp"
#include "vm/python/unsigned.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using namespace vm::mem::paging;
using vm::Access;
using vm::Privilege;

namespace {

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

PyMethodDef translate_definition = translate_method<AddressSpace>(translate_doc);

py::object mappings(const AddressSpace& space, Unsigned start, const py::object& stop, bool merge,
                    std::uint64_t limit) {
  EnumerateOptions options;
  if (!stop.is_none() && PyIndex_Check(stop.ptr()) == 0) throw py::type_error("stop must be an int or None");
  options.first = start.value;
  options.merge = merge;
  options.limit = limit;
  const py::object beyond = stop.is_none() ? py::int_(1).attr("__lshift__")(64) : stop;
  const py::object last = beyond - py::int_(1);
  std::vector<Mapping> found;
  if (beyond > py::int_(start.value)) {
    options.last = last.cast<Unsigned>().value;
    const py::gil_scoped_release release;
    const TouchGuard touching(*space.memory());
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
  const TouchGuard touching(*space.memory());
  space.map({vaddr, paddr, size, access, user, page_size});
}

std::uint64_t unmap(AddressSpace& space, std::uint64_t vaddr, std::uint64_t size) {
  const TouchGuard touching(*space.memory());
  return space.unmap(vaddr, size);
}

void protect(AddressSpace& space, std::uint64_t vaddr, std::uint64_t size, Access access, std::optional<bool> user) {
  const TouchGuard touching(*space.memory());
  space.protect(vaddr, size, access, user);
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
  const TouchGuard touching(*space.memory());
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
      .def_property_readonly(
          "tables", [](const AddressSpace& self) { return tables_to_python(self.options().tables); },
          "Where new tables are taken from, or None for the default.")
      .def_property_readonly(
          "update_accessed_dirty", [](const AddressSpace& self) { return self.options().update_accessed_dirty; },
          "True when translations set A and D flags.")
      .def_property_readonly("page_size", &AddressSpace::smallest_page, "Bytes of the smallest page of the format.")
      .def_property_readonly("engines", &engine_names, "Names of the batch engines that can run here.")
      .def("choose_engine", &choose_engine, "vaddrs"_a, py::kw_only(), read_access, "user"_a = false,
           "The engine that translate(vaddrs) would pick.")
      .def("mappings", &mappings, "start"_a = Unsigned{0}, "stop"_a = py::none(), py::kw_only(), "merge"_a = true,
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
      .def("unmap", &unmap, "vaddr"_a, "size"_a, py::call_guard<py::gil_scoped_release>(),
           "Remove the mappings in a range and return how many bytes were mapped.\n\n"
           "Larger pages are split at the ends of the range, tables that become empty are freed; holes are fine. All "
           "or nothing.")
      .def("protect", &protect, "vaddr"_a, "size"_a, "access"_a, "user"_a = py::none(),
           py::call_guard<py::gil_scoped_release>(),
           "Change the rights of a mapped range; user=None keeps each page's privilege.\n\n"
           "PageFault for the first hole. All or nothing.")
      .def("__repr__", [](const AddressSpace& self) { return "AddressSpace(" + describe(self.config()) + ")"; });
  add_method(type, translate_definition);
}
