#include "mem/paging/format_operations.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/paging/riscv.hpp"

namespace vm::mem::paging {

std::unique_ptr<const Operations> make_operations(const RiscVConfig& config) {
  switch (config.mode) {
    case RiscVMode::sv32: return std::make_unique<FormatOperations<RiscVFormat<2>>>(config);
    case RiscVMode::sv39: return std::make_unique<FormatOperations<RiscVFormat<3>>>(config);
    case RiscVMode::sv48: return std::make_unique<FormatOperations<RiscVFormat<4>>>(config);
    case RiscVMode::sv57: return std::make_unique<FormatOperations<RiscVFormat<5>>>(config);
  }
  throw InvalidConfig("RISC-V mode " + std::to_string(static_cast<int>(config.mode)) +
                      "; 1 (Sv32), 8 (Sv39), 9 (Sv48) and 10 (Sv57) exist");
}

}  // namespace vm::mem::paging
