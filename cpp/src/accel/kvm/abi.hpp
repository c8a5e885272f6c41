#pragma once
/// \file
/// The kernel's interface, completed by what is younger than the installed headers (Debian 12 has those of Linux 6.1).
/// Numbers and layouts are Linux's, include/uapi/linux/kvm.h, and never change.

#include <linux/stddef.h>

// The kernel's headers hide a trailing array behind an empty struct (Linux 5.16 and later). In C++ that one has a size,
// so the array would begin too late, and the request numbers, which contain the sizes, would be others.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(type, name) type name[0]
#include <linux/kvm.h>
#pragma GCC diagnostic pop

static_assert(sizeof(kvm_irq_routing) == 8 && sizeof(kvm_coalesced_mmio_ring) == 8,
              "trailing arrays begin where the kernel has them");

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
