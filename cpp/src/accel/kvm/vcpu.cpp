#include "vcpu.hpp"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
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

/// Exits after which the kernel has nothing left to do for the instruction (Linux, arch/x86/kvm/x86.c: no
/// complete_userspace_io). Everything else may have.
bool leaves_work(std::uint32_t reason) noexcept {
  return reason != KVM_EXIT_HLT && reason != KVM_EXIT_INTR && reason != KVM_EXIT_SHUTDOWN &&
         reason != KVM_EXIT_DIRTY_RING_FULL;
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
      capabilities_(vm_->fd(), fd_.get()),
      synchronized_fields_(static_cast<std::uint64_t>(std::max(0, vm_->capability(KVM_CAP_SYNC_REGS)))) {
  vm_->dirty().add_vcpu(id, fd_.get());
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
  if (early_exit_) {
    early_exit_ = false;
    exit = read_exit(area(), area_size_);
    return true;
  }
  signal_.entering();
  const int result = run_guest();
  const int code = errno;
  signal_.left();
  unfinished_ = result >= 0 && leaves_work(area().exit_reason);
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

bool KvmVcpu::enter_and_return() {
  signal_.send();  // nobody is inside, so this only sets the flag
  const int result = run_guest();
  const int code = errno;
  signal_.clear();
  if (result < 0 && code != EINTR && code != EAGAIN) throw_errno("KVM_RUN", code);
  unfinished_ = result >= 0;
  return result >= 0;
}

void KvmVcpu::complete() {
  if (!early_exit_) early_exit_ = enter_and_return();
}

void KvmVcpu::discard_exit() {
  early_exit_ = false;
  forget_copies();
  if (!unfinished_) return;
  // A string instruction goes from exit to exit; with nothing left to count it ends. What remains are the pieces of an
  // access that crosses pages.
  constexpr int most_pieces = 16;
  for (int i = 0; i < most_pieces; ++i) {
    if (!enter_and_return()) return;
#if defined(__x86_64__)
    kvm_regs regs{};
    checked_ioctl(fd_.get(), KVM_GET_REGS, &regs, "KVM_GET_REGS");
    regs.rcx = 0;
    checked_ioctl(fd_.get(), KVM_SET_REGS, &regs, "KVM_SET_REGS");
#endif
  }
  throw PlatformError("KVM_RUN: an instruction of the guest does not end", EIO);
}

}  // namespace vm::accel::kvm
