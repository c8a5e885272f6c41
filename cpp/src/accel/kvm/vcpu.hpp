#pragma once
/// \file
/// A vCPU of KVM: its descriptor, and the area that it shares with the kernel.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "abi.hpp"
#include "capability_set.hpp"
#include "guest_debug.hpp"
#include "thread_signal.hpp"
#include "vcpu_interrupts.hpp"
#include "vcpu_state.hpp"
#include "vm.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "vm/mem/guest/mapping.hpp"
#include "vm/mem/guest/unique_fd.hpp"
#include "x86_state.hpp"

namespace vm::accel::kvm {

class KvmVcpu final : public VcpuBackend {
 public:
  KvmVcpu(unsigned id, std::shared_ptr<KvmVm> vm);

  void attach() override { ThreadSignal::prepare_thread(); }
  bool enter(Exit& exit) override;
  void nudge() noexcept override { signal_.send(); }
  void reply(const Exit& exit, const std::byte* data) override;
  void refuse(const Exit& exit) override;
  void complete() override;
  /// For requests of others. One that changes registers is followed by `forget_copies`.
  int fd() const noexcept { return fd_.get(); }
#if defined(__x86_64__)
  X86State* x86() noexcept override { return &x86_; }
  VcpuInterrupts* interrupts() noexcept override { return &interrupts_; }
  GuestDebug* guest_debug() noexcept override {
    forget_copies();  // stepping hides the trap flag of the guest
    return &debug_;
  }
#endif
  VcpuState* state() noexcept override {
    forget_copies();  // it can write any register
    return &state_;
  }
  Capabilities* capabilities() noexcept override { return &capabilities_; }
  void pre_fault(std::uint64_t paddr, std::uint64_t size) override;

  /// What the last exit left of the registers in the shared area is not true any more.
  void forget_copies() noexcept {
#if defined(__x86_64__)
    x86_.forget();
#endif
  }

 private:
  /// KVM_RUN; -1 and errno when it failed.
  int run_guest() noexcept;
  kvm_run& area() const noexcept { return *reinterpret_cast<kvm_run*>(pages_.at(0)); }

  const std::shared_ptr<KvmVm> vm_;  // goes last: the kernel's VM lives as long as the mapping
  const mem::UniqueFd fd_;
  const std::size_t area_size_;
  const mem::MappedPages pages_;
  ThreadSignal signal_;
#if defined(__x86_64__)
  KvmX86State x86_;
  KvmVcpuInterrupts interrupts_;
  KvmGuestDebug debug_;
#endif
  KvmVcpuState state_;
  CapabilitySet capabilities_;
};

}  // namespace vm::accel::kvm
