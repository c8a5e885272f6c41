#include "mem/paging/format_operations.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/aarch64.hpp"

namespace vm::mem::paging {

std::unique_ptr<const Operations> make_operations(const AArch64Config& config) {
  switch (config.granule) {
    case 4096: return std::make_unique<FormatOperations<AArch64Format<12>>>(config);
    case 16384: return std::make_unique<FormatOperations<AArch64Format<14>>>(config);
    case 65536: return std::make_unique<FormatOperations<AArch64Format<16>>>(config);
    default:
      throw InvalidConfig("granule is " + std::to_string(config.granule) + " bytes; AArch64 has 4096, 16384 and 65536");
  }
}

}  // namespace vm::mem::paging
