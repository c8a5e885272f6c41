#include "vm/accel/snapshot/snapshot.hpp"

#include <string>
#include <utility>

#include "accel/snapshot/binding.hpp"
#include "accel/snapshot/copier.hpp"
#include "accel/snapshot/file.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {
namespace {

std::string slot_text(std::uint64_t base, std::uint64_t size, bool read_only) {
  return hex(base) + "-" + hex(base + (size - 1)) + (read_only ? " (read-only)" : "");
}

std::string ids_text(const std::vector<unsigned>& ids) {
  std::string text;
  for (const unsigned id : ids) text += (text.empty() ? "" : ", ") + std::to_string(id);
  return ids.empty() ? "none" : text;
}

void check_parts(const SnapshotParts& parts) {
  for (const SnapshotSlot& slot : parts.slots) {
    const std::uint64_t count = slot.size / MemoryImage::page_size;
    if (slot.size == 0 || slot.size % MemoryImage::page_size != 0 || slot.base % MemoryImage::page_size != 0 ||
        slot.base + (slot.size - 1) < slot.base)
      throw InvalidConfig("a snapshot's memory slot of " + hex(slot.size) + " bytes at " + hex(slot.base) +
                          " is not whole pages of the address space");
    const std::uint64_t pages = parts.memory ? parts.memory->pages() : 0;
    if (count > pages || slot.image_page > pages - count)
      throw InvalidConfig("a snapshot's memory slot at " + hex(slot.base) + " has no contents");
  }
}

}  // namespace

Snapshot::Snapshot(SnapshotParts parts) : parts_(std::move(parts)) { check_parts(parts_); }

Snapshot::Snapshot(SnapshotParts parts, States states)
    : parts_(std::move(parts)), states_(std::make_unique<const States>(std::move(states))) {}

std::uint64_t Snapshot::memory_size() const noexcept {
  std::uint64_t size = 0;
  for (const SnapshotSlot& slot : parts_.slots) size += slot.size;
  return size;
}

void Snapshot::save(const std::string& path) const { save_snapshot_file(parts_, path); }

std::shared_ptr<Snapshot> Snapshot::load(const std::string& path) {
  return std::make_shared<Snapshot>(load_snapshot_file(path));
}

void Snapshot::check_backend(const Vm& vm) const {
  const std::string architecture = architecture_name(vm.architecture());
  if (parts_.backend == vm.backend_name() && parts_.architecture == architecture) return;
  throw InvalidConfig("a snapshot from " + parts_.backend + " on " + parts_.architecture +
                      " cannot be restored into a VM of " + vm.backend_name() + " on " + architecture);
}

void Snapshot::check_slots(const Vm& vm) const {
  const std::vector<MemorySlot> slots = vm.slots();
  std::string here;
  std::string wanted;
  for (const MemorySlot& slot : slots) here += " " + slot_text(slot.base, slot.size, slot.flags.read_only);
  for (const SnapshotSlot& slot : parts_.slots) wanted += " " + slot_text(slot.base, slot.size, slot.read_only);
  if (here != wanted)
    throw InvalidConfig("the snapshot has the memory slots" + wanted + ", the VM has" +
                        (here.empty() ? " none" : here));
}

const Snapshot::States& Snapshot::states(Vm& vm) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (states_) return *states_;
  const std::shared_ptr<VmSaver> reader = vm.saver();
  States states;
  states.vm = reader->read_vm(parts_.vm_state);
  for (const SnapshotVcpu& vcpu : parts_.vcpus) states.vcpus.push_back(reader->read_vcpu(vcpu.state));
  states_ = std::make_unique<const States>(std::move(states));
  return *states_;
}

std::shared_ptr<Snapshot::Binding> Snapshot::bind(Vm& vm) const {
  const std::shared_ptr<DirtyLog> log = vm.dirty_log();
  log->forget();  // until all vCPUs are prepared for this snapshot, none is for the one before
  const std::vector<std::shared_ptr<Vcpu>> vcpus = vm.vcpus();
  std::vector<unsigned> here;
  std::vector<unsigned> wanted;
  for (const auto& vcpu : vcpus) here.push_back(vcpu->id());
  for (const SnapshotVcpu& vcpu : parts_.vcpus) wanted.push_back(vcpu.id);
  if (here != wanted)
    throw InvalidConfig("the snapshot has the vCPUs " + ids_text(wanted) + ", the VM has " + ids_text(here));
  const States& states = this->states(vm);
  for (std::size_t i = 0; i < vcpus.size(); ++i) vcpus[i]->prepare_state(states.vcpus[i]);
  auto binding = std::make_shared<Binding>(weak_from_this(), vcpus);
  log->begin(binding);
  return binding;
}

void Snapshot::restore_states(Vm& vm, const Binding& binding) const {
  const States& states = this->states(vm);
  vm.saver()->restore(*states.vm);
  for (const std::weak_ptr<Vcpu>& weak : binding.vcpus()) {
    const std::shared_ptr<Vcpu> vcpu = weak.lock();
    if (!vcpu) throw ClosedError("a vCPU of the snapshot is gone; keep it as long as the VM is restored");
    vcpu->restore_state();
  }
}

RestoreResult Snapshot::restore(Vm& vm, RestorePages pages) const {
  const std::shared_ptr<DirtyLog> log = vm.dirty_log();
  const std::shared_ptr<Baseline> baseline = log->baseline();
  const auto* binding = dynamic_cast<const Binding*>(baseline.get());
  Copier copier(parts_);
  // Memory comes last: setting some MSRs makes the kernel write to it (the wall clock of paravirtual guests).
  if (binding != nullptr && binding->is_of(weak_from_this())) {
    restore_states(vm, *binding);
    if (log->rewind(binding, copier) && pages == RestorePages::changed) return {copier.pages(), false};
  } else {
    check_backend(vm);
    check_slots(vm);
    vm.saver()->prepare(*states(vm).vm);
    Binding::watch_all(vm);
    restore_states(vm, *bind(vm));
  }
  for (const MemorySlot& slot : vm.slots()) copier.compare(slot);
  return {copier.pages(), true};
}

std::shared_ptr<Vm> Snapshot::fill(std::shared_ptr<Vm> vm, bool track) const {
  check_backend(*vm);
  const States& states = this->states(*vm);
  vm->saver()->prepare(*states.vm);
  if (parts_.memory != nullptr) {
    const std::shared_ptr<mem::HostMapping> memory = parts_.memory->copy_on_write();
    std::vector<mem::Region> regions;
    for (const SnapshotSlot& slot : parts_.slots) {
      regions.push_back({slot.base, slot.size, memory->data() + slot.image_page * MemoryImage::page_size,
                         !slot.read_only, slot.name, memory});
    }
    mem::ImageFacts facts;
    facts.format = "snapshot";
    vm->map(mem::GuestMemory(mem::RegionTable(std::move(regions)), std::move(facts)), {false, track});
  }
  for (std::size_t i = 0; i < parts_.vcpus.size(); ++i) vm->create_vcpu(parts_.vcpus[i].id);
  if (track) {
    restore_states(*vm, *bind(*vm));
    return vm;
  }
  const std::vector<std::shared_ptr<Vcpu>> vcpus = vm->vcpus();
  for (std::size_t i = 0; i < vcpus.size(); ++i) vcpus[i]->prepare_state(states.vcpus[i]);
  restore_states(*vm, Binding(weak_from_this(), vcpus));
  return vm;
}

std::shared_ptr<Vm> Snapshot::clone(Hypervisor& hypervisor, bool track) const {
  return fill(hypervisor.create_vm(), track);
}

std::shared_ptr<Vm> fork(Vm& vm, bool track) { return Snapshot::take(vm, false)->fill(vm.create_sibling(), track); }

}  // namespace vm::accel
