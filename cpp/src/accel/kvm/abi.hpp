#pragma once
/// \file
/// The kernel's interface, completed by what is younger than the installed headers (Debian 12 has those of Linux 6.1).
/// Numbers and layouts are Linux's, include/uapi/linux/kvm.h, and never change.

#include <linux/stddef.h>

// Headers between Linux 6.1 and 6.5 put an empty structure before arrays of any length. It has a size in C++ but not in
// C, so that layouts and request numbers would be wrong; later headers declare the array like this.
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <linux/kvm.h>
#pragma GCC diagnostic pop

static_assert(sizeof(kvm_irq_routing) == 8 && sizeof(kvm_reg_list) == 8 && sizeof(kvm_coalesced_mmio_ring) == 8);
#if defined(__x86_64__)
static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8 && sizeof(kvm_msr_list) == 4);
static_assert(sizeof(kvm_xsave) == 4096 && sizeof(kvm_pmu_event_filter) == 32);
#endif

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
