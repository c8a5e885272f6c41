#include "vm/accel/hypervisor/vm.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "facet.hpp"
#include "vm/accel/hypervisor/balloon.hpp"
#include "vm/accel/hypervisor/exit_policy.hpp"
#include "vm/accel/hypervisor/guest_memfds.hpp"
#include "vm/accel/hypervisor/interrupts.hpp"
#include "vm/accel/hypervisor/io_events.hpp"
#include "vm/accel/hypervisor/kernel_device.hpp"
#include "vm/accel/hypervisor/x86_irqchip.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

std::string range_text(std::uint64_t base, std::uint64_t size) { return hex(base) + "-" + hex(base + (size - 1)); }

mem::Region as_region(const MemorySlot& slot) {
  mem::Region region;
  region.base = slot.base;
  region.size = slot.size;
  region.host = slot.host;
  region.writable = slot.mapping->writable();
  region.name = slot.name;
  region.mapping = slot.mapping;
  return region;
}

/// The regions, all of them moved so that the first begins at `at`.
std::vector<mem::Region> moved(std::vector<mem::Region> regions, std::optional<std::uint64_t> at) {
  if (regions.empty()) throw InvalidConfig("this memory has no regions to map");
  if (!at) return regions;
  const std::uint64_t offset = *at - regions.front().base;  // modulo 2^64, so it moves down too
  if (*at + (regions.back().last() - regions.front().base) < *at)
    throw InvalidConfig("memory that ends at " + hex(regions.back().last()) + " cannot begin at " + hex(*at));
  for (mem::Region& region : regions) region.base += offset;
  return regions;
}

}  // namespace

Vm::Vm(std::shared_ptr<HypervisorBackend> hypervisor, std::shared_ptr<VmBackend> backend)
    : hypervisor_(std::move(hypervisor)), backend_(std::move(backend)) {
  if (backend_->dirty_pages() != nullptr) dirty_log_ = std::make_shared<DirtyLog>(backend_);
}

Vm::~Vm() = default;

std::shared_ptr<VmBackend> Vm::backend() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the VM is closed");
  return backend_;
}

void Vm::check_slot(const VmBackend& backend, const mem::Region& region) const {
  const std::uint64_t page = backend.page_size();
  const auto host = reinterpret_cast<std::uintptr_t>(region.host);
  if (region.base % page != 0 || region.size % page != 0 || host % page != 0) {
    throw InvalidConfig("region " + range_text(region.base, region.size) + " (" + region.name +
                        ") does not begin and end at pages of " + std::to_string(page) +
                        " bytes in the guest and in this process; copy it into GuestMemory.anonymous and map that");
  }
  if (const MemorySlot* other = backend.slots.overlapping(region.base, region.size)) {
    throw InvalidConfig("region " + range_text(region.base, region.size) + " overlaps the slot " +
                        range_text(other->base, other->size) + "; unmap that first");
  }
}

std::vector<MemorySlot> Vm::map(const mem::GuestMemory& memory, SlotFlags flags, std::optional<std::uint64_t> at) {
  const std::vector<mem::Region> regions = moved(memory.table()->regions(), at);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the VM is closed");
  for (const mem::Region& region : regions) check_slot(*backend_, region);
  const std::size_t taken = backend_->slots.all().size();
  if (regions.size() > backend_->max_slots() - taken) {
    throw ResourceExhausted("the memory has " + std::to_string(regions.size()) + " regions, and of the VM's " +
                            std::to_string(backend_->max_slots()) + " slots " + std::to_string(taken) + " are taken");
  }
  std::vector<MemorySlot> added;
  try {
    for (const mem::Region& region : regions) {
      const SlotFlags own{flags.read_only || !region.writable, flags.log_dirty};
      const MemorySlot slot{
          backend_->slots.free_id(), region.base, region.size, region.host, own, region.name, region.mapping};
      backend_->add_slot(slot);
      backend_->slots.insert(slot);
      added.push_back(slot);
    }
    slots_changed();
  } catch (...) {
    for (const MemorySlot& slot : added) {
      backend_->remove_slot(slot);
      backend_->slots.erase(slot.base);
    }
    throw;
  }
  return added;
}

void Vm::unmap(std::uint64_t base) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the VM is closed");
  const MemorySlot slot = backend_->slots.starting_at(base);
  backend_->remove_slot(slot);
  backend_->slots.erase(base);
  slots_changed();
}

void Vm::move(std::uint64_t base, std::uint64_t to) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the VM is closed");
  const MemorySlot& found = backend_->slots.starting_at(base);
  if (to % backend_->page_size() != 0 || to + (found.size - 1) < to)
    throw InvalidConfig("a slot of " + hex(found.size) + " bytes cannot begin at " + hex(to));
  if (const MemorySlot* other = backend_->slots.overlapping(to, found.size, &found))
    throw InvalidConfig("at " + hex(to) + " the slot would overlap " + range_text(other->base, other->size));
  const MemorySlot before = found;
  MemorySlot after = before;
  after.base = to;
  backend_->change_slot(before, after);
  backend_->slots.erase(base);
  backend_->slots.insert(std::move(after));
  slots_changed();
}

void Vm::set_flags(std::uint64_t base, SlotFlags flags) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the VM is closed");
  const MemorySlot before = backend_->slots.starting_at(base);
  if (!flags.read_only && !before.mapping->writable())
    throw InvalidConfig("the memory of the slot at " + hex(base) + " is read-only, so the slot stays read-only");
  if (before.flags == flags) return;
  MemorySlot after = before;
  after.flags = flags;
  backend_->change_slot(before, after);
  backend_->slots.erase(base);
  backend_->slots.insert(std::move(after));
  slots_changed();
}

std::vector<MemorySlot> Vm::slots() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the VM is closed");
  return backend_->slots.all();
}

std::shared_ptr<mem::GuestMemory> Vm::memory() const {
  std::vector<mem::Region> regions;
  for (const MemorySlot& slot : slots()) regions.push_back(as_region(slot));
  mem::ImageFacts facts;
  facts.format = "vm";
  return std::make_shared<mem::GuestMemory>(mem::RegionTable(std::move(regions)), std::move(facts));
}

std::shared_ptr<Vcpu> Vm::create_vcpu(std::optional<unsigned> id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the VM is closed");
  vcpus_.erase(std::remove_if(vcpus_.begin(), vcpus_.end(), [](const auto& old) { return old->closed(); }),
               vcpus_.end());
  unsigned number = id.value_or(0);
  while (!id && ids_.count(number) != 0) ++number;
  std::unique_ptr<VcpuBackend> found = ids_.count(number) == 0 ? nullptr : unpark(number);
  if (!found) found = backend_->create_vcpu(number, backend_);
  auto vcpu = std::make_shared<Vcpu>(number, std::move(found), backend_, watchdog_, parked_);
  parked_->expect(number);
  ids_.insert(number);
  vcpus_.push_back(vcpu);
  if (dirty_log_) dirty_log_->vcpu_added();
  return vcpu;
}

std::unique_ptr<VcpuBackend> Vm::unpark(unsigned id) {
  std::unique_ptr<VcpuBackend> vcpu = parked_->take(id);
  if (!vcpu) {
    throw InvalidConfig("this VM has had a vCPU " + std::to_string(id) +
                        " already, and only a parked one can be had again; park it instead of closing it");
  }
  try {
    vcpu->attach();
    vcpu->complete();  // else the next run would still write its result into registers that were set meanwhile
  } catch (...) {
    parked_->put(id, std::move(vcpu));
    throw;
  }
  return vcpu;
}

std::vector<unsigned> Vm::parked() const {
  if (closed()) throw ClosedError("the VM is closed");
  return parked_->ids();
}

std::shared_ptr<Balloon> Vm::balloon() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the VM is closed");
  if (!balloon_) balloon_ = std::make_shared<Balloon>(weak_from_this(), backend_->page_size());
  return balloon_;
}

std::vector<std::shared_ptr<Vcpu>> Vm::vcpus() const {
  std::vector<std::shared_ptr<Vcpu>> result;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!backend_) throw ClosedError("the VM is closed");
    std::copy_if(vcpus_.begin(), vcpus_.end(), std::back_inserter(result),
                 [](const auto& vcpu) { return !vcpu->closed(); });
  }
  std::sort(result.begin(), result.end(), [](const auto& a, const auto& b) { return a->id() < b->id(); });
  return result;
}

Architecture Vm::architecture() const { return hypervisor_->architecture(); }

std::shared_ptr<Interrupts> Vm::interrupts() const {
  return facet_of(backend(), &VmBackend::interrupts, "this hypervisor has no interrupt controllers");
}

std::shared_ptr<X86Irqchip> Vm::x86_irqchip() const {
  return facet_of(backend(), &VmBackend::x86_irqchip,
                  "this hypervisor has no controllers of a PC: its VMs are of another architecture");
}

std::shared_ptr<IoEvents> Vm::io_events() const {
  return facet_of(backend(), &VmBackend::io_events, "this hypervisor has no accesses that end in it without an exit");
}

std::shared_ptr<ExitPolicy> Vm::exit_policy() const {
  return facet_of(backend(), &VmBackend::exit_policy, "this hypervisor has no choice of what exits");
}

std::shared_ptr<GuestMemfds> Vm::guest_memfds() const {
  return facet_of(backend(), &VmBackend::guest_memfds, "this hypervisor keeps no memory of its own for guests");
}

std::shared_ptr<KernelDevice> Vm::create_device(KernelDeviceKind kind) const { return backend()->create_device(kind); }

std::shared_ptr<X86VmState> Vm::x86() const {
  return facet_of(backend(), &VmBackend::x86, "this VM has no x86 state: it is of another architecture");
}

std::shared_ptr<Capabilities> Vm::capabilities() const {
  return facet_of(backend(), &VmBackend::capabilities, "this VM's backend has no capabilities to ask for");
}

std::shared_ptr<KernelStatistics> Vm::kernel_statistics() const {
  return facet_of(backend(), &VmBackend::kernel_statistics, "this hypervisor keeps no statistics of a VM");
}

std::shared_ptr<Vm> Vm::create_sibling() const {
  if (closed()) throw ClosedError("the VM is closed");
  return std::make_shared<Vm>(hypervisor_, hypervisor_->create_vm());
}

void Vm::close() noexcept {
  std::vector<std::shared_ptr<Vcpu>> vcpus;
  std::shared_ptr<VmBackend> backend;
  std::shared_ptr<DirtyLog> dirty_log;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    vcpus.swap(vcpus_);
    backend.swap(backend_);
    dirty_log.swap(dirty_log_);
  }
  for (const std::shared_ptr<Vcpu>& vcpu : vcpus) vcpu->close();
  parked_->close();
}

bool Vm::closed() const noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !backend_;
}

std::string Vm::backend_name() const { return hypervisor_->name(); }

std::shared_ptr<DirtyLog> Vm::dirty_log() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!backend_) throw ClosedError("the VM is closed");
  if (!dirty_log_) throw NotSupported(hypervisor_->name() + " does not tell which pages the guest writes");
  return dirty_log_;
}

void Vm::mark_dirty(std::uint64_t paddr, std::uint64_t size) { dirty_log()->mark(paddr, size); }

void Vm::write(std::uint64_t paddr, const void* source, std::uint64_t size) { dirty_log()->write(paddr, source, size); }

std::shared_ptr<VmSaver> Vm::saver() const {
  const std::shared_ptr<VmBackend> backend = this->backend();
  VmSaver* saver = backend->saver();
  if (saver == nullptr) throw NotSupported(hypervisor_->name() + " cannot save and restore a VM");
  return {backend, saver};
}

void Vm::slots_changed() {
  if (dirty_log_) dirty_log_->set_slots(backend_->slots);
}

}  // namespace vm::accel
