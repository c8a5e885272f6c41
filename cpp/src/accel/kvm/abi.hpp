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
#ifndef KVM_CAP_USER_MEMORY2  // Linux 6.8
#define KVM_CAP_USER_MEMORY2 231
#define KVM_CAP_MEMORY_ATTRIBUTES 233
#define KVM_CAP_GUEST_MEMFD 234
#define KVM_MEM_GUEST_MEMFD (1UL << 2)
#define KVM_MEMORY_ATTRIBUTE_PRIVATE (1ULL << 3)
#endif
#ifndef KVM_CAP_PRE_FAULT_MEMORY  // Linux 6.11
#define KVM_CAP_PRE_FAULT_MEMORY 236
#endif
#ifndef KVM_CAP_GUEST_MEMFD_FLAGS  // Linux 6.18
#define KVM_CAP_GUEST_MEMFD_FLAGS 244
#define GUEST_MEMFD_FLAG_MMAP (1ULL << 0)
#define GUEST_MEMFD_FLAG_INIT_SHARED (1ULL << 1)
#endif

namespace vm::accel::kvm {

/// kvm_run.memory_fault (Linux 6.8).
struct MemoryFaultArea {
  __u64 flags;
  __u64 gpa;
  __u64 size;
};

// Linux 6.8, but for the last, which is of 6.11. Own names, because younger headers have structures of the kernel's.

/// kvm_userspace_memory_region2.
struct MemoryRegion2 {
  __u32 slot;
  __u32 flags;
  __u64 guest_phys_addr;
  __u64 memory_size;
  __u64 userspace_addr;
  __u64 guest_memfd_offset;
  __u32 guest_memfd;
  __u32 pad1;
  __u64 pad2[14];
};
/// kvm_create_guest_memfd.
struct CreateGuestMemfd {
  __u64 size;
  __u64 flags;
  __u64 reserved[6];
};
/// kvm_memory_attributes.
struct MemoryAttributes {
  __u64 address;
  __u64 size;
  __u64 attributes;
  __u64 flags;
};
/// kvm_pre_fault_memory.
struct PreFaultMemory {
  __u64 gpa;
  __u64 size;
  __u64 flags;
  __u64 padding[5];
};
static_assert(sizeof(MemoryRegion2) == 160 && sizeof(CreateGuestMemfd) == 64 && sizeof(MemoryAttributes) == 32 &&
              sizeof(PreFaultMemory) == 64);

constexpr unsigned long set_user_memory_region2 = _IOW(KVMIO, 0x49, MemoryRegion2);
constexpr unsigned long set_memory_attributes = _IOW(KVMIO, 0xd2, MemoryAttributes);
constexpr unsigned long create_guest_memfd = _IOWR(KVMIO, 0xd4, CreateGuestMemfd);
constexpr unsigned long pre_fault_memory = _IOWR(KVMIO, 0xd5, PreFaultMemory);

}  // namespace vm::accel::kvm
