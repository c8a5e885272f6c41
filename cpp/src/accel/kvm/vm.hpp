#pragma once
/// \file
/// A VM of KVM: its descriptor and what is asked of it.

#include <cstdint>
#include <memory>

#include "capability_set.hpp"
#include "dirty_pages.hpp"
#include "guest_memfds.hpp"
#include "interrupts.hpp"
#include "io_events.hpp"
#include "kernel_statistics.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "vm/mem/pages/unique_fd.hpp"
#include "x86_vm_state.hpp"

#if defined(__x86_64__)
#include "exit_policy.hpp"
#include "x86_irqchip.hpp"
#include "x86_saver.hpp"
#endif

namespace vm::accel::kvm {

/// /dev/kvm, opened. Any thread.
class System {
 public:
  /// Throws NotSupported with the reason when KVM cannot be used.
  explicit System(const std::string& path);

  int fd() const noexcept { return fd_.get(); }
  std::size_t vcpu_area_size() const noexcept { return vcpu_area_size_; }
  /// KVM_CHECK_EXTENSION: 0 is no.
  int capability(unsigned number) const noexcept;

 private:
  mem::UniqueFd fd_;
  std::size_t vcpu_area_size_;
};

class KvmVm final : public VmBackend {
 public:
  explicit KvmVm(std::shared_ptr<const System> system);

  std::unique_ptr<VcpuBackend> create_vcpu(unsigned id, const std::shared_ptr<VmBackend>& self) override;
  void add_slot(const MemorySlot& slot) override;
  void remove_slot(const MemorySlot& slot) override;
  void change_slot(const MemorySlot& before, const MemorySlot& after) override;
  std::uint64_t page_size() const noexcept override { return page_size_; }
  std::size_t max_slots() const noexcept override;
#if defined(__x86_64__)
  X86VmState* x86() noexcept override { return &x86_; }
  bool has_exception_payload() const noexcept { return has_exception_payload_; }
  bool has_triple_fault_event() const noexcept { return has_triple_fault_event_; }
#endif
  Capabilities* capabilities() noexcept override { return &capabilities_; }
  KernelStatistics* kernel_statistics() noexcept override { return &kernel_statistics_; }
  GuestMemfds* guest_memfds() noexcept override { return &guest_memfds_; }

  DirtyPages* dirty_pages() noexcept override { return &dirty_; }
#if defined(__x86_64__)
  VmSaver* saver() noexcept override { return &saver_; }
#endif

  KvmDirtyPages& dirty() noexcept { return dirty_; }
  int fd() const noexcept { return fd_.get(); }
  const System& system() const noexcept { return *system_; }
  /// KVM_CHECK_EXTENSION asked of the VM, which may know better than the system.
  int capability(unsigned number) const noexcept;
  /// Its answer, which is more than 0. Throws NotSupported naming it: `name` is the kernel's.
  int require(unsigned number, const char* name) const;
  /// KVM_ENABLE_CAP with one argument. Throws like `require` and checked_ioctl.
  void enable(unsigned number, const char* name, std::uint64_t argument) const;

  Interrupts* interrupts() noexcept override { return &interrupts_; }
  IoEvents* io_events() noexcept override { return &io_events_; }
  std::shared_ptr<KernelDevice> create_device(KernelDeviceKind kind) override;
#if defined(__x86_64__)
  X86Irqchip* x86_irqchip() noexcept override { return &x86_irqchip_; }
  ExitPolicy* exit_policy() noexcept override { return &exit_policy_; }
#endif
  const KvmInterrupts& irq() const noexcept { return interrupts_; }

 private:
  void set_region(const MemorySlot& slot, std::uint64_t size);

  const std::shared_ptr<const System> system_;
  const mem::UniqueFd fd_;
  const std::uint64_t page_size_;
  KvmInterrupts interrupts_{*this};
  KvmIoEvents io_events_{*this};
#if defined(__x86_64__)
  KvmX86Irqchip x86_irqchip_{*this};
  KvmExitPolicy exit_policy_{*this};
  KvmX86VmState x86_;
  const bool has_exception_payload_;
  const bool has_triple_fault_event_;
  KvmX86VmSaver saver_{*this};
#endif
  CapabilitySet capabilities_;
  KvmStatistics kernel_statistics_{fd_.get(), fd_.get()};
  KvmDirtyPages dirty_{*this};
  KvmGuestMemfds guest_memfds_{*this};
};

}  // namespace vm::accel::kvm
