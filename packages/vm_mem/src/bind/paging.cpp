// vm_mem.paging: the parts, in the order in which they refer to each other.

#include "bind.hpp"
#include "paging_config.hpp"
#include "translation_array.hpp"
#include "translation_type.hpp"

void bind_paging(pybind11::module_& module) {
  bind_translation_type(module);
  bind_translation_array(module);
  bind_paging_config(module);
  bind_address_space(module);
  bind_roots(module);
}
