#pragma once
/// \file
/// A VM of KVM: its descriptor and what is asked of it.

#include <cstdint>
#include <memory>

#include "dirty_pages.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "vm/mem/guest/unique_fd.hpp"
#if defined(__x86_64__)
#include "x86_states.hpp"
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

  DirtyPages* dirty_pages() noexcept override { return &dirty_; }
#if defined(__x86_64__)
  VmStates* states() noexcept override { return &states_; }
#endif

  KvmDirtyPages& dirty() noexcept { return dirty_; }
  int fd() const noexcept { return fd_.get(); }
  const System& system() const noexcept { return *system_; }
  /// KVM_CHECK_EXTENSION asked of the VM, which may know better than the system.
  int capability(unsigned number) const noexcept;

 private:
  void set_region(const MemorySlot& slot, std::uint64_t size);

  const std::shared_ptr<const System> system_;
  const mem::UniqueFd fd_;
  const std::uint64_t page_size_;
  KvmDirtyPages dirty_{*this};
#if defined(__x86_64__)
  KvmX86VmStates states_{*this};
#endif
};

}  // namespace vm::accel::kvm
