#include "vm/mem/numa/replicated.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "mem/numa/calls.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::numa {

ReplicatedBlock::ReplicatedBlock(const Topology& topology, std::vector<int> nodes,
                                 std::vector<std::shared_ptr<NumaBlock>> blocks)
    : nodes_(std::move(nodes)), blocks_(std::move(blocks)), size_(blocks_.front()->size()) {
  Caller caller;
  caller.allowed_nodes = nodes_;  // the nearest of those that have a copy
  for (const int cpu : topology.cpus) {
    caller.cpu = cpu;
    const int node = decide(NumaPolicy::local(), topology, caller).nodes.front();
    const auto at = static_cast<std::size_t>(cpu);
    if (nearest_.size() <= at) nearest_.resize(at + 1, 0);
    nearest_[at] = static_cast<std::size_t>(std::find(nodes_.begin(), nodes_.end(), node) - nodes_.begin());
  }
}

const std::shared_ptr<NumaBlock>& ReplicatedBlock::on(int node) const {
  const auto found = std::find(nodes_.begin(), nodes_.end(), node);
  if (found != nodes_.end()) return blocks_[static_cast<std::size_t>(found - nodes_.begin())];
  throw OutOfRange(
      "there is no copy on node " + std::to_string(node) + "; there are copies on nodes " + cpu_list(nodes_),
      static_cast<std::uint64_t>(node), 1);
}

const std::shared_ptr<NumaBlock>& ReplicatedBlock::local() const noexcept {
  const auto cpu = static_cast<std::size_t>(current_cpu());
  // A CPU that was not there when the topology was read: any copy will do.
  return blocks_[cpu < nearest_.size() ? nearest_[cpu] : 0];
}

void ReplicatedBlock::write(std::uint64_t offset, const void* source, std::uint64_t size) {
  if (offset > size_ || size > size_ - offset) {
    throw OutOfRange("a write of " + hex(size) + " bytes at offset " + hex(offset) + " does not fit copies of " +
                         hex(size_) + " bytes",
                     offset, size);
  }
  std::vector<std::shared_ptr<HostMapping>> copies;
  for (const auto& block : blocks_) copies.push_back(block->mapping());
  if (size == 0) return;
  // Bytes of one of the copies are needed as they are for all the others: that one goes last.
  const auto from = reinterpret_cast<std::uintptr_t>(source);
  std::partition(copies.begin(), copies.end(), [from, size](const auto& copy) {
    const auto begin = reinterpret_cast<std::uintptr_t>(copy->data());
    return from + size <= begin || begin + copy->size() <= from;
  });
  for (const auto& copy : copies) std::memmove(copy->data() + offset, source, size);
}

void ReplicatedBlock::synchronize(int node) {
  const auto from = on(node)->mapping();
  std::vector<std::shared_ptr<HostMapping>> copies;
  for (const auto& block : blocks_) copies.push_back(block->mapping());
  for (const auto& copy : copies) {
    if (copy != from) std::memcpy(copy->data(), from->data(), size_);
  }
}

void ReplicatedBlock::close() noexcept {
  for (const auto& block : blocks_) block->close();
}

bool ReplicatedBlock::closed() const noexcept { return blocks_.front()->closed(); }

}  // namespace vm::mem::numa
