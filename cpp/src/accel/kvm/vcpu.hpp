#pragma once
/// \file
/// A vCPU of KVM: its descriptor, and the area that it shares with the kernel.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "abi.hpp"
#include "capability_set.hpp"
#include "guest_debug.hpp"
#include "kernel_statistics.hpp"
#include "thread_signal.hpp"
#include "vcpu_interrupts.hpp"
#include "vcpu_state.hpp"
#include "vm.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "vm/mem/pages/mapping.hpp"
#include "vm/mem/pages/unique_fd.hpp"
#include "x86_state.hpp"
#if defined(__x86_64__)
#include "x86_saver.hpp"
#endif

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
  VcpuSaver* saver() noexcept override { return &saver_; }
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
  KernelStatistics* kernel_statistics() noexcept override { return &kernel_statistics_; }
  void pre_fault(std::uint64_t paddr, std::uint64_t size) override;

  const KvmVm& vm() const noexcept { return *vm_; }
  /// What the last exit left of the registers in the shared area is not true any more.
  void forget_copies() noexcept {
#if defined(__x86_64__)
    x86_.forget();
#endif
  }

  kvm_run& area() const noexcept { return *reinterpret_cast<kvm_run*>(pages_.at(0)); }
  /// KVM_SYNC_X86_*: what an entry takes from the shared area when asked.
  std::uint64_t synchronized_fields() const noexcept { return synchronized_fields_; }

  /// KVM_RUN that comes back before the guest runs; what the last exit left to do is done. True: doing that led to the
  /// next exit.
  bool enter_and_return();
  /// `complete` found the next exit, which `enter` will return.
  bool has_early_exit() const noexcept { return early_exit_; }
  /// Drops what the last exit left to do. Changes registers and memory: for a guest whose state is replaced.
  void discard_exit();

 private:
  /// KVM_RUN; -1 and errno when it failed.
  int run_guest() noexcept;

  const std::shared_ptr<KvmVm> vm_;  // goes last: the kernel's VM lives as long as the mapping
  const mem::UniqueFd fd_;
  const std::size_t area_size_;
  const mem::MappedPages pages_;
  ThreadSignal signal_;
#if defined(__x86_64__)
  KvmX86State x86_;
  KvmVcpuInterrupts interrupts_;
  KvmGuestDebug debug_;
  KvmX86VcpuSaver saver_{*this};
#endif
  KvmVcpuState state_;
  CapabilitySet capabilities_;
  KvmStatistics kernel_statistics_{fd_.get(), vm_->fd()};
  const std::uint64_t synchronized_fields_;
  bool unfinished_ = false;  // the last exit may have left something to do
  bool early_exit_ = false;
};

}  // namespace vm::accel::kvm
