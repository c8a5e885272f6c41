#pragma once
/// \file
/// What a dump says about one CPU.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vm::mem {

struct Register {
  std::string name;  ///< as the architecture's manual writes it, in lower case: "rip", "cr3", "x30", "sp"
  std::uint64_t value = 0;
};

/// The registers of one CPU at the time of the dump; only those that the dump's notes carry. No note that QEMU writes
/// carries EFER.
struct CpuState {
  std::string architecture;  ///< "x86_64", "i386", "aarch64", "arm", "riscv64", "riscv32"
  std::vector<Register> registers;

  std::optional<std::uint64_t> get(std::string_view name) const;
  /// rip, eip or pc, and rsp, esp or sp, whatever the architecture calls them.
  std::optional<std::uint64_t> program_counter() const;
  std::optional<std::uint64_t> stack_pointer() const;
};

}  // namespace vm::mem
