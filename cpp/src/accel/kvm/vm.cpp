#include "vm.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include "abi.hpp"
#include "ioctl.hpp"
#include "kernel_device.hpp"
#include "vcpu.hpp"
#include "vm/accel/kvm/probe.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {

KvmVm::KvmVm(std::shared_ptr<const System> system)
    : system_(std::move(system)),
      fd_(checked_ioctl(system_->fd(), KVM_CREATE_VM, "KVM_CREATE_VM")),
      page_size_(static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE))),
#if defined(__x86_64__)
      x86_(fd_.get()),
      has_exception_payload_(x86_.enable_exception_payload()),
      has_triple_fault_event_(x86_.enable_triple_fault_event()),
#endif
      capabilities_(fd_.get(), fd_.get()) {
}

std::unique_ptr<VcpuBackend> KvmVm::create_vcpu(unsigned id, const std::shared_ptr<VmBackend>& self) {
  auto vcpu = std::make_unique<KvmVcpu>(id, std::static_pointer_cast<KvmVm>(self));
  io_events_.map_ring(vcpu->fd(), system_->vcpu_area_size());
  return vcpu;
}

int KvmVm::capability(unsigned number) const noexcept {
  return ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(number));
}

int KvmVm::require(unsigned number, const char* name) const {
  const int answer = capability(number);
  if (answer <= 0) throw NotSupported(std::string("this kernel's KVM does not have that (") + name + ")");
  return answer;
}

void KvmVm::enable(unsigned number, const char* name, std::uint64_t argument) const {
  require(number, name);
  kvm_enable_cap request{};
  request.cap = number;
  request.args[0] = argument;
  checked_ioctl(fd_.get(), KVM_ENABLE_CAP, &request, name);
}

std::shared_ptr<KernelDevice> KvmVm::create_device(KernelDeviceKind kind) { return kvm::create_device(*this, kind); }

std::size_t KvmVm::max_slots() const noexcept {
  const int most = capability(KVM_CAP_NR_MEMSLOTS);
  return most > 0 ? static_cast<std::size_t>(most) : 32;  // 32 where the kernel does not tell (api.rst §4.35)
}

void KvmVm::set_region(const MemorySlot& slot, std::uint64_t size) {
  if (size != 0 && guest_memfds_.holds(slot)) return guest_memfds_.add_slot(slot);
  kvm_userspace_memory_region region{};
  region.slot = slot.id;
  if (slot.flags.read_only) region.flags |= KVM_MEM_READONLY;
  if (slot.flags.log_dirty) region.flags |= KVM_MEM_LOG_DIRTY_PAGES;
  region.guest_phys_addr = slot.base;
  region.memory_size = size;
  region.userspace_addr = reinterpret_cast<std::uintptr_t>(slot.host);
  checked_ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
}

void KvmVm::add_slot(const MemorySlot& slot) {
  if (slot.flags.read_only && capability(KVM_CAP_READONLY_MEM) <= 0)
    throw NotSupported("this kernel's KVM has no read-only memory slots (KVM_CAP_READONLY_MEM)");
  set_region(slot, slot.size);
}

void KvmVm::remove_slot(const MemorySlot& slot) { set_region(slot, 0); }

void KvmVm::change_slot(const MemorySlot& before, const MemorySlot& after) {
  // The kernel moves a slot and switches dirty logging in place, but a slot is read-only from birth.
  // One over a guest_memfd cannot be changed at all.
  if (before.flags.read_only == after.flags.read_only && !guest_memfds_.holds(before))
    return set_region(after, after.size);
  remove_slot(before);
  try {
    add_slot(after);
  } catch (...) {
    add_slot(before);
    throw;
  }
}

}  // namespace vm::accel::kvm
