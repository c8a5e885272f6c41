#pragma once
/// \file
/// Memory that the hypervisor itself keeps for its guests, and what it knows about pages (Linux,
/// Documentation/virt/kvm/api.rst, KVM_CREATE_GUEST_MEMFD and KVM_SET_MEMORY_ATTRIBUTES).

#include <cstdint>
#include <memory>

#include "vm/mem/guest/memory.hpp"

namespace vm::accel {

/// A facet of a VM. Any thread.
class GuestMemfds {
 public:
  virtual ~GuestMemfds() = default;

  /// `size` zero bytes at `base` in a guest_memfd of this VM, mapped here too. `Vm::map` lets the guest have the pages
  /// from the guest_memfd itself, without this process's page tables; its slot is neither read-only nor watched for
  /// writes, and another VM takes the memory as ordinary memory. Throws InvalidConfig for parts of pages, NotSupported
  /// naming what the kernel lacks (KVM_CAP_GUEST_MEMFD, KVM_CAP_GUEST_MEMFD_FLAGS), ResourceExhausted, PlatformError.
  virtual std::shared_ptr<mem::GuestMemory> create(std::uint64_t size, std::uint64_t base) = 0;

  /// What `set_private` can do here: KVM_CAP_MEMORY_ATTRIBUTES has the bit for private pages.
  virtual bool has_private() const noexcept = 0;
  /// The guest's pages in [paddr, paddr + size) are private to it, or shared with this process again. Throws
  /// InvalidConfig for parts of pages, NotSupported naming KVM_CAP_MEMORY_ATTRIBUTES, PlatformError.
  virtual void set_private(std::uint64_t paddr, std::uint64_t size, bool is_private) = 0;
};

}  // namespace vm::accel
