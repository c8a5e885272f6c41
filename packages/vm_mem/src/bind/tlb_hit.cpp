#include "tlb_hit.hpp"

#include <string>

#include "vm/core/error.hpp"
#include "vm/mem/tlb/entry.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using vm::mem::tlb::Hit;

namespace {

std::uint64_t page_size(const Hit& hit) { return std::uint64_t{1} << hit.size_log2; }
// What supervisor or user code may do.
vm::Access granted(const Hit& hit) { return vm::supervisor_access(hit.rights) | vm::user_access(hit.rights); }
bool user(const Hit& hit) { return vm::user_access(hit.rights) != vm::Access::none; }

std::string repr(const Hit& hit) {
  return "TlbHit(paddr=" + vm::hex(hit.paddr) + ", page_size=" + vm::hex(page_size(hit)) +
         ", access=" + vm::to_string(granted(hit)) + ", user=" + (user(hit) ? "True" : "False") +
         ", level=" + std::to_string(hit.tlb_level) + ")";
}

}  // namespace

void bind_tlb_hit(py::module_& module) {
  py::class_<Hit> type(module, "TlbHit", "A translation that a TLB had. Immutable.");
  type.def_readonly("paddr", &Hit::paddr, "The physical address of the address that was asked for.")
      .def_property_readonly("page_size", &page_size, "Bytes of the page.")
      .def_property_readonly("access", &granted, "vm_core.Access: what the page may be used for.")
      .def_property_readonly("user", &user, "True when user code may use it too.")
      .def_readonly("global_", &Hit::global, "True when it answers for every ASID of its VM.")
      .def_readonly("prefetched", &Hit::prefetched, "True for the first use of a prefetched entry.")
      .def_readonly("level", &Hit::tlb_level, "Which level of the TLB had it; 0 is the first.")
      .def("__repr__", &repr);
  type.attr("__match_args__") = py::make_tuple("paddr", "page_size", "access");
}
