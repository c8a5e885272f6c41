#include "vcpu.hpp"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "exit.hpp"
#include "ioctl.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::kvm {
namespace {

mem::MappedPages map_area(int fd, std::size_t size) {
  void* area = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (area == MAP_FAILED) throw_errno("mapping the vCPU's shared area", errno);
  return {area, size};
}

}  // namespace

KvmVcpu::KvmVcpu(unsigned id, std::shared_ptr<KvmVm> vm)
    : vm_(std::move(vm)),
      fd_(checked_ioctl(vm_->fd(), KVM_CREATE_VCPU, std::uintptr_t{id}, "KVM_CREATE_VCPU")),
      area_size_(vm_->system().vcpu_area_size()),
      pages_(map_area(fd_.get(), area_size_)),
      signal_(&area().immediate_exit),
#if defined(__x86_64__)
      x86_(fd_.get(), *vm_, area()),
      interrupts_(*vm_, fd_.get(), area()),
      debug_(fd_.get(), vm_->capability(KVM_CAP_SET_GUEST_DEBUG2)),
#endif
      state_(fd_.get(), vm_->fd()),
      capabilities_(vm_->fd(), fd_.get()) {
}

int KvmVcpu::run_guest() noexcept {
#if defined(__x86_64__)
  x86_.about_to_run();
  const int result = ::ioctl(fd_.get(), KVM_RUN, 0);
  if (result >= 0) x86_.ran();
  return result;
#else
  return ::ioctl(fd_.get(), KVM_RUN, 0);
#endif
}

bool KvmVcpu::enter(Exit& exit) {
  signal_.entering();
  const int result = run_guest();
  const int code = errno;
  signal_.left();
  if (result >= 0) {
    exit = read_exit(area(), area_size_);
    return true;
  }
  if (code == EINTR || code == EAGAIN) {  // EAGAIN: the vCPU waits for a start-up message
    signal_.clear();
    return false;
  }
  if (is_exit_with_error(area(), code)) {
    exit = read_exit(area(), area_size_);
    return true;
  }
  throw_errno("KVM_RUN", code);
}

void KvmVcpu::reply(const Exit& exit, const std::byte* data) { write_reply(area(), area_size_, exit, data); }

void KvmVcpu::refuse(const Exit& /*exit*/) { area().msr.error = 1; }

void KvmVcpu::pre_fault(std::uint64_t paddr, std::uint64_t size) {
  vm_->require(KVM_CAP_PRE_FAULT_MEMORY, "KVM_CAP_PRE_FAULT_MEMORY");
  PreFaultMemory request{};
  request.gpa = paddr;
  request.size = size;
  // It comes back early for a signal, with what is left.
  while (request.size > 0) checked_ioctl(fd_.get(), pre_fault_memory, &request, "KVM_PRE_FAULT_MEMORY");
}

void KvmVcpu::complete() {
  signal_.send();  // nobody is inside, so this only sets the flag
  if (run_guest() < 0 && errno != EINTR) throw_errno("KVM_RUN", errno);
  signal_.clear();
}

}  // namespace vm::accel::kvm
