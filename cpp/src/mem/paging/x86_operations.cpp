#include "mem/paging/format_operations.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/x86.hpp"

namespace vm::mem::paging {

std::unique_ptr<const Operations> make_operations(const X86Config& config) {
  switch (config.levels) {
    case 2: return std::make_unique<FormatOperations<X86Format<2>>>(config);
    case 3: return std::make_unique<FormatOperations<X86Format<3>>>(config);
    case 4: return std::make_unique<FormatOperations<X86Format<4>>>(config);
    case 5: return std::make_unique<FormatOperations<X86Format<5>>>(config);
    default:
      throw InvalidConfig("levels is " + std::to_string(config.levels) +
                          "; x86 has 2 (32-bit), 3 (PAE), 4 (4-level) and 5 (LA57)");
  }
}

}  // namespace vm::mem::paging
