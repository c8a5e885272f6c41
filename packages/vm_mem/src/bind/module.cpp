// The extension module vm_mem._mem: convert, release the GIL, call, convert back. What a name means is said where C++
// declares it.

#include "bind.hpp"
#include "vm/python/abi.hpp"

PYBIND11_MODULE(_mem, module, pybind11::mod_gil_not_used()) {
  vm::python::import_core();
  module.doc() = "Compiled part of vm_mem; import the names from vm_mem instead.";
  bind_alloc_block(module);
  bind_alloc_bump(module);
  bind_alloc_pool(module);
  bind_alloc_slab(module);
  bind_pages(module);
  bind_dual_mapping(module);
  bind_numpy_allocator(module);
  bind_guest(module);
  bind_lazy(module);
  bind_numa(module);
  bind_paging(module);
  bind_prefetch(module);
  bind_tlb(module);
  bind_mmu(module);
  bind_simd(module);
  module.attr("__version__") = VM_VERSION;
}
