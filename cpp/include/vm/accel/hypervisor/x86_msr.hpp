#pragma once
/// \file
/// Model-specific registers by number and by name.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vm::accel {

struct X86Msr {
  std::uint32_t index = 0;
  std::uint64_t value = 0;
};

struct MsrName {
  const char* name;
  std::uint32_t index;
};

/// The names that `msr_index` knows, by index: those of the Intel SDM vol. 4 without "IA32_", of the AMD APM vol. 2
/// without "MSR_", and KVM's own (Linux, Documentation/virt/kvm/x86/msr.rst).
const std::vector<MsrName>& msr_names();

/// The number of a register. Upper and lower case are the same; "IA32_", "MSR_" in front change nothing. Throws
/// InvalidConfig for a name that is not in `msr_names`.
std::uint32_t msr_index(std::string_view name);

/// "EFER", or "0x12345678" for one without a name.
std::string msr_name(std::uint32_t index);

}  // namespace vm::accel
