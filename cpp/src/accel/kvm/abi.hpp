#pragma once
/// \file
/// The kernel's interface, completed by what is younger than the installed headers (Debian 12 has those of Linux 6.1).
/// Numbers and layouts are Linux's, include/uapi/linux/kvm.h, and never change.

#include <linux/kvm.h>

#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#endif

namespace vm::accel::kvm {

/// kvm_run.memory_fault (Linux 6.8).
struct MemoryFaultArea {
  __u64 flags;
  __u64 gpa;
  __u64 size;
};

}  // namespace vm::accel::kvm
