#include "vm/accel/hypervisor/balloon.hpp"

#include <algorithm>
#include <iterator>
#include <string>

#include "vm/accel/hypervisor/vm.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {
namespace {

/// [paddr, paddr + size) lies in slots. What the guest cannot write was put there for it to read.
void check_writable(const std::vector<MemorySlot>& slots, std::uint64_t paddr, std::uint64_t size) {
  for (const MemorySlot& slot : slots) {
    if (!slot.flags.read_only || size == 0 || slot.last() < paddr || slot.base > paddr + (size - 1)) continue;
    throw AccessViolation("inflate of " + hex(size) + " bytes at " + hex(paddr) + " touches the read-only slot at " +
                          hex(slot.base) + " (" + slot.name + ")");
  }
}

/// A restore has to put the pages back, and nobody but this process changed them.
void mark_dirty(Vm& vm, std::uint64_t paddr, std::uint64_t size) {
  for (const MemorySlot& slot : vm.slots()) {
    const std::uint64_t first = std::max(paddr, slot.base);
    const std::uint64_t last = std::min(paddr + (size - 1), slot.last());
    if (slot.flags.log_dirty && first <= last) vm.mark_dirty(first, last - first + 1);
  }
}

}  // namespace

Balloon::Balloon(std::weak_ptr<Vm> vm, std::uint64_t page_size) : vm_(std::move(vm)), page_size_(page_size) {}

std::shared_ptr<Vm> Balloon::vm() const {
  std::shared_ptr<Vm> vm = vm_.lock();
  if (!vm) throw ClosedError("the VM of this balloon is gone");
  return vm;
}

void Balloon::check_pages(std::uint64_t paddr, std::uint64_t size, const char* what) const {
  const std::string asked = std::string(what) + " of " + hex(size) + " bytes at " + hex(paddr);
  if (paddr % page_size_ != 0 || size % page_size_ != 0)
    throw InvalidConfig(asked + ": a balloon holds whole pages of " + std::to_string(page_size_) + " bytes");
  if (size != 0 && !range_fits(paddr, size))
    throw OutOfRange(asked + " ends beyond the last 64-bit address", paddr, size);
}

Balloon::Ranges Balloon::runs_of(std::vector<std::uint64_t> frames) const {
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  if (!frames.empty() && frames.back() > UINT64_MAX / page_size_) {
    throw OutOfRange("page number " + hex(frames.back()) + " lies beyond the last 64-bit address", UINT64_MAX,
                     page_size_);
  }
  Ranges ranges;
  for (const std::uint64_t frame : frames) {
    const std::uint64_t paddr = frame * page_size_;
    if (!ranges.empty() && ranges.back().first + ranges.back().second == paddr) {
      ranges.back().second += page_size_;
    } else {
      ranges.emplace_back(paddr, page_size_);
    }
  }
  return ranges;
}

std::uint64_t Balloon::take_out(std::uint64_t first, std::uint64_t end) {
  std::uint64_t taken = 0;
  auto at = inside_.upper_bound(first);
  if (at != inside_.begin() && std::prev(at)->second > first) --at;
  while (at != inside_.end() && at->first < end) {
    const auto [start, stop] = *at;
    at = inside_.erase(at);
    if (start < first) inside_.emplace(start, first);
    if (stop > end) inside_.emplace(end, stop);
    taken += std::min(stop, end) - std::max(start, first);
  }
  inside_bytes_ -= taken;
  return taken;
}

void Balloon::inflate_ranges(const Ranges& ranges) {
  const auto machine = vm();
  const auto memory = machine->memory();
  for (const auto& [paddr, size] : ranges) {
    memory->require_discardable(paddr, size);
    check_writable(machine->slots(), paddr, size);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [paddr, size] : ranges) {
    if (size == 0) continue;
    memory->discard(paddr, size);
    mark_dirty(*machine, paddr, size);
    take_out(paddr, paddr + size);
    const auto added = inside_.emplace(paddr, paddr + size).first;
    inside_bytes_ += size;
    inflations_ += size / page_size_;
    const auto next = std::next(added);
    if (next != inside_.end() && next->first == added->second) {
      added->second = next->second;
      inside_.erase(next);
    }
    if (added != inside_.begin() && std::prev(added)->second == added->first) {
      std::prev(added)->second = added->second;
      inside_.erase(added);
    }
  }
}

void Balloon::deflate_ranges(const Ranges& ranges, bool populate) {
  const auto machine = vm();
  if (populate) {
    const auto memory = machine->memory();
    for (const auto& [paddr, size] : ranges) memory->populate(paddr, size);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [paddr, size] : ranges) deflations_ += take_out(paddr, paddr + size) / page_size_;
}

void Balloon::inflate(std::uint64_t paddr, std::uint64_t size) {
  check_pages(paddr, size, "inflate");
  inflate_ranges({{paddr, size}});
}

void Balloon::inflate_pages(std::vector<std::uint64_t> frames) { inflate_ranges(runs_of(std::move(frames))); }

void Balloon::deflate(std::uint64_t paddr, std::uint64_t size, bool populate) {
  check_pages(paddr, size, "deflate");
  deflate_ranges({{paddr, size}}, populate);
}

void Balloon::deflate_pages(std::vector<std::uint64_t> frames, bool populate) {
  deflate_ranges(runs_of(std::move(frames)), populate);
}

Balloon::Ranges Balloon::ranges() const {
  if (vm()->closed()) throw ClosedError("the VM is closed");
  const std::lock_guard<std::mutex> lock(mutex_);
  Ranges result;
  for (const auto& [first, end] : inside_) result.emplace_back(first, end - first);
  return result;
}

BalloonStats Balloon::stats() const {
  const auto memory = vm()->memory();
  BalloonStats stats;
  stats.page_size = page_size_;
  const auto table = memory->table();
  for (const mem::Region& region : table->regions()) {
    stats.memory_bytes += region.size;
    stats.resident_bytes += memory->resident(region.base, region.size);
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  stats.inflated_bytes = inside_bytes_;
  stats.inflated_pages = inside_bytes_ / page_size_;
  stats.inflations = inflations_;
  stats.deflations = deflations_;
  return stats;
}

}  // namespace vm::accel
