#include "guest_memfds.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "abi.hpp"
#include "ioctl.hpp"
#include "vm.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/mapping.hpp"
#include "vm/mem/pages/unique_fd.hpp"

namespace vm::accel::kvm {
namespace {

void require_pages(const KvmVm& vm, const char* what, std::uint64_t base, std::uint64_t size) {
  if (size == 0 || size % vm.page_size() != 0 || base % vm.page_size() != 0)
    throw InvalidConfig(std::string(what) + " takes whole pages, got " + hex(size) + " bytes at " + hex(base));
}

}  // namespace

std::shared_ptr<mem::GuestMemory> KvmGuestMemfds::create(std::uint64_t size, std::uint64_t base) {
  require_pages(vm_, "a guest_memfd", base, size);
  vm_.require(KVM_CAP_GUEST_MEMFD, "KVM_CAP_GUEST_MEMFD");
  vm_.require(KVM_CAP_USER_MEMORY2, "KVM_CAP_USER_MEMORY2");
  constexpr std::uint64_t flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED;
  const int known = vm_.capability(KVM_CAP_GUEST_MEMFD_FLAGS);
  if (known < 0 || (static_cast<std::uint64_t>(known) & flags) != flags) {
    throw NotSupported(
        "this kernel's guest_memfds cannot be mapped into a process (KVM_CAP_GUEST_MEMFD_FLAGS: MMAP and INIT_SHARED, "
        "Linux 6.18); use a memfd");
  }
  CreateGuestMemfd request{};
  request.size = size;
  request.flags = flags;
  mem::UniqueFd fd(checked_ioctl(vm_.fd(), create_guest_memfd, &request, "KVM_CREATE_GUEST_MEMFD"));
  auto mapping = mem::HostMapping::memory_object(std::move(fd), size, "a guest_memfd");

  mem::Region region;
  region.base = base;
  region.size = size;
  region.host = mapping->data();
  region.writable = true;
  region.name = "guest_memfd";
  region.mapping = mapping;
  mem::ImageFacts facts;
  facts.format = "guest_memfd";
  auto memory = std::make_shared<mem::GuestMemory>(mem::RegionTable({std::move(region)}), std::move(facts));
  const std::lock_guard<std::mutex> lock(mutex_);
  mappings_.erase(
      std::remove_if(mappings_.begin(), mappings_.end(), [](const auto& mapped) { return mapped.expired(); }),
      mappings_.end());
  mappings_.push_back(std::move(mapping));
  return memory;
}

bool KvmGuestMemfds::has_private() const noexcept {
  const int known = vm_.capability(KVM_CAP_MEMORY_ATTRIBUTES);
  return known > 0 && (static_cast<std::uint64_t>(known) & KVM_MEMORY_ATTRIBUTE_PRIVATE) != 0;
}

void KvmGuestMemfds::set_private(std::uint64_t paddr, std::uint64_t size, bool is_private) {
  require_pages(vm_, "set_private", paddr, size);
  vm_.require(KVM_CAP_MEMORY_ATTRIBUTES, "KVM_CAP_MEMORY_ATTRIBUTES");
  MemoryAttributes request{};
  request.address = paddr;
  request.size = size;
  request.attributes = is_private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
  checked_ioctl(vm_.fd(), set_memory_attributes, &request, "KVM_SET_MEMORY_ATTRIBUTES");
}

bool KvmGuestMemfds::holds(const MemorySlot& slot) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  // By the control block: neither locks an object nor meets another one at the same address.
  return std::any_of(mappings_.begin(), mappings_.end(), [&slot](const auto& mapped) {
    return !mapped.owner_before(slot.mapping) && !slot.mapping.owner_before(mapped);
  });
}

void KvmGuestMemfds::add_slot(const MemorySlot& slot) const {
  if (slot.flags.read_only || slot.flags.log_dirty) {
    throw NotSupported("the slot at " + hex(slot.base) +
                       " is over a guest_memfd: KVM neither makes it read-only nor watches its writes "
                       "(KVM_MEM_GUEST_MEMFD); map a memfd instead");
  }
  MemoryRegion2 region{};
  region.slot = slot.id;
  region.flags = KVM_MEM_GUEST_MEMFD;
  region.guest_phys_addr = slot.base;
  region.memory_size = slot.size;
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(slot.host);
  region.guest_memfd = static_cast<__u32>(slot.mapping->fd());
  region.guest_memfd_offset = static_cast<std::uint64_t>(slot.host - slot.mapping->data());
  checked_ioctl(vm_.fd(), set_user_memory_region2, &region, "KVM_SET_USER_MEMORY_REGION2");
}

}  // namespace vm::accel::kvm
