#pragma once
/// \file
/// CPUID tables in the kernel's form.

#include "vm/accel/hypervisor/x86_cpuid.hpp"

namespace vm::accel::kvm {

/// The answer of a request that fills a kvm_cpuid2, as large as it has to be.
CpuidTable read_cpuid(int fd, unsigned long request, const char* what);

}  // namespace vm::accel::kvm
