// Taking a snapshot: states, then memory.

#include <string>
#include <utility>

#include "accel/snapshot/binding.hpp"
#include "mem/guest/data_extents.hpp"
#include "vm/accel/snapshot/snapshot.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {
namespace {

constexpr std::uint64_t page_size = MemoryImage::page_size;

std::string range_text(const MemorySlot& slot) { return hex(slot.base) + "-" + hex(slot.last()); }

/// Where in the image each slot goes. Slots that show the same host memory share its pages.
std::vector<std::uint64_t> image_pages(const std::vector<MemorySlot>& slots, std::uint64_t& pages) {
  std::vector<std::uint64_t> result;
  for (std::size_t i = 0; i < slots.size(); ++i) {
    std::uint64_t at = pages;
    for (std::size_t k = 0; k < i; ++k) {
      if (slots[i].host >= slots[k].host + slots[k].size || slots[k].host >= slots[i].host + slots[i].size) continue;
      if (slots[i].host != slots[k].host || slots[i].size != slots[k].size)
        throw InvalidConfig("the slots " + range_text(slots[k]) + " and " + range_text(slots[i]) +
                            " share a part of their host memory; a snapshot can keep that only when they share all");
      at = result[k];
    }
    if (at == pages) pages += slots[i].size / page_size;
    result.push_back(at);
  }
  return result;
}

/// Copies what a slot shows; what the host never touched is not read.
void copy_slot(MemoryImage::Builder& builder, const MemorySlot& slot, std::uint64_t image_page) {
  const mem::HostMapping& mapping = *slot.mapping;
  if (mapping.filler() != nullptr) return builder.write(image_page, slot.size / page_size, slot.host);
  const mem::DataExtents extents(mapping);
  const auto start = static_cast<std::uint64_t>(slot.host - mapping.data());
  std::uint64_t at = 0;
  while (at < slot.size) {
    const mem::Extent data = extents.next(start + at, start + slot.size);
    if (data.begin == data.end) return;
    const std::uint64_t first = (data.begin - start) / page_size;
    const std::uint64_t end = (data.end - start + page_size - 1) / page_size;
    builder.write(image_page + first, end - first, slot.host + first * page_size);
    at = end * page_size;
  }
}

std::shared_ptr<const MemoryImage> copy_memory(const Vm& vm, const std::vector<MemorySlot>& slots,
                                               std::vector<SnapshotSlot>& described) {
  std::uint64_t pages = 0;
  const std::vector<std::uint64_t> places = image_pages(slots, pages);
  const auto table = vm.memory()->table();
  if (pages == 0) return nullptr;
  MemoryImage::Builder builder(pages);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    const MemorySlot& slot = slots[i];
    described.push_back({slot.base, slot.size, slot.flags.read_only, slot.name, places[i]});
    bool copied = false;
    for (std::size_t k = 0; k < i; ++k) copied = copied || places[k] == places[i];
    if (copied) continue;
    table->require_present(slot.base, slot.size);
    copy_slot(builder, slot, places[i]);
  }
  return builder.finish();
}

}  // namespace

std::shared_ptr<Snapshot> Snapshot::take(Vm& vm, bool track) {
  const std::shared_ptr<VmSaver> reader = vm.saver();
  SnapshotParts parts;
  parts.backend = vm.backend_name();
  parts.architecture = architecture_name(vm.architecture());
  States states;
  for (const std::shared_ptr<Vcpu>& vcpu : vm.vcpus()) {
    states.vcpus.push_back(vcpu->save_state());
    parts.vcpus.push_back({vcpu->id(), states.vcpus.back()->bytes()});
  }
  states.vm = reader->save(states.vcpus);
  parts.vm_state = states.vm->bytes();
  if (track) Binding::watch_all(vm);
  parts.memory = copy_memory(vm, vm.slots(), parts.slots);
  std::shared_ptr<Snapshot> snapshot(std::make_shared<Snapshot>(std::move(parts), std::move(states)));
  if (track) snapshot->bind(vm);
  return snapshot;
}

}  // namespace vm::accel
