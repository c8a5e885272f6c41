#pragma once
/// \file
/// A scripted VM: slots, and the way to its vCPUs.

#include <cstdint>
#include <memory>
#include <mutex>

#include "stage.hpp"
#include "vm/accel/hypervisor/backend.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel::scripted {

class ScriptedVm final : public VmBackend {
 public:
  explicit ScriptedVm(std::shared_ptr<Stage> stage);

  std::unique_ptr<VcpuBackend> create_vcpu(unsigned id, const std::shared_ptr<VmBackend>& self) override;
  void add_slot(const MemorySlot& slot) override;
  void remove_slot(const MemorySlot& slot) override;
  void change_slot(const MemorySlot& before, const MemorySlot& after) override;
  std::uint64_t page_size() const noexcept override { return 4096; }
  std::size_t max_slots() const noexcept override { return stage_->plan().max_slots; }

  unsigned number() const noexcept { return number_; }
  Stage& stage() const noexcept { return *stage_; }
  /// As the guest sees them.
  std::shared_ptr<mem::GuestMemory> memory() const;

 private:
  const std::shared_ptr<Stage> stage_;
  const unsigned number_;
  mutable std::mutex mutex_;
  SlotTable seen_;  // guarded by mutex_; the front's own table is guarded by the front
};

}  // namespace vm::accel::scripted
