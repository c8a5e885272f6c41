#include "vm.hpp"

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "vcpu.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::scripted {
namespace {

/// For the record, which keeps no memory alive.
MemorySlot without_memory(MemorySlot slot) {
  slot.host = nullptr;
  slot.mapping.reset();
  return slot;
}

}  // namespace

ScriptedVm::ScriptedVm(std::shared_ptr<Stage> stage) : stage_(std::move(stage)), number_(stage_->next_vm()) {
  stage_->take({CallKind::create_vm, number_, {}, 0, {}});
}

std::unique_ptr<VcpuBackend> ScriptedVm::create_vcpu(unsigned id, const std::shared_ptr<VmBackend>& self) {
  stage_->take({CallKind::create_vcpu, number_, id, 0, {}});
  if (id >= stage_->plan().max_vcpus) {
    throw PlatformError("vCPU " + std::to_string(id) + ": this hypervisor has vCPUs 0 to " +
                            std::to_string(stage_->plan().max_vcpus - 1),
                        EINVAL);
  }
  return std::make_unique<ScriptedVcpu>(id, std::static_pointer_cast<ScriptedVm>(self));
}

void ScriptedVm::add_slot(const MemorySlot& slot) {
  stage_->take({CallKind::add_slot, number_, {}, 0, without_memory(slot)});
  const std::lock_guard<std::mutex> lock(mutex_);
  seen_.insert(slot);
}

void ScriptedVm::remove_slot(const MemorySlot& slot) {
  stage_->take({CallKind::remove_slot, number_, {}, 0, without_memory(slot)});
  const std::lock_guard<std::mutex> lock(mutex_);
  seen_.erase(slot.base);
}

void ScriptedVm::change_slot(const MemorySlot& before, const MemorySlot& after) {
  stage_->take({CallKind::change_slot, number_, {}, 0, SlotChange{without_memory(before), without_memory(after)}});
  const std::lock_guard<std::mutex> lock(mutex_);
  seen_.erase(before.base);
  seen_.insert(after);
}

std::shared_ptr<mem::GuestMemory> ScriptedVm::memory() const {
  std::vector<mem::Region> regions;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const MemorySlot& slot : seen_.all()) {
      const bool writable = slot.mapping->writable() && !slot.flags.read_only;
      regions.push_back({slot.base, slot.size, slot.host, writable, slot.name, slot.mapping});
    }
  }
  mem::ImageFacts facts;
  facts.format = "vm";
  return std::make_shared<mem::GuestMemory>(mem::RegionTable(std::move(regions)), std::move(facts));
}

}  // namespace vm::accel::scripted
