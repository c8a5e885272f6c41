#include "vm/mem/numa/allocator.hpp"

#include <utility>

#include "mem/numa/machine.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::numa {

namespace {

/// The real machine, also where the environment has hwloc describe another one.
Topology detect() {
  Topology topology = Topology::detect();
  return topology.is_this_system ? topology : Topology::detect(TopologySource::sysfs);
}

}  // namespace

NumaAllocator::NumaAllocator(NumaPolicy policy, Through through)
    : NumaAllocator(detect(), std::move(policy), through) {}

NumaAllocator::NumaAllocator(Topology topology, NumaPolicy policy, Through through)
    : machine_(std::make_shared<Machine>(std::move(topology), through)), policy_(std::move(policy)) {}

const Topology& NumaAllocator::topology() const noexcept { return machine_->topology(); }

const std::string& NumaAllocator::through() const noexcept { return machine_->through(); }

Decision NumaAllocator::decide(const NumaPolicy& policy) const { return machine_->decide(policy); }

std::shared_ptr<NumaBlock> NumaAllocator::allocate(std::uint64_t size, const BlockOptions& options) {
  return allocate(size, policy_, options);
}

std::shared_ptr<NumaBlock> NumaAllocator::allocate(std::uint64_t size, const NumaPolicy& policy,
                                                   const BlockOptions& options) {
  machine_->require_this_system();
  return machine_->allocate(size, machine_->decide(policy), options);
}

std::shared_ptr<NumaBlock> NumaAllocator::allocate_local(std::uint64_t size, const BlockOptions& options) {
  return allocate(size, NumaPolicy::local(), options);
}

std::shared_ptr<NumaBlock> NumaAllocator::allocate_on_node(std::uint64_t size, int node, const BlockOptions& options) {
  return allocate(size, NumaPolicy::bind({node}), options);
}

std::shared_ptr<NumaBlock> NumaAllocator::allocate_interleaved(std::uint64_t size, std::vector<int> nodes,
                                                               const BlockOptions& options) {
  return allocate(size, NumaPolicy::interleave(std::move(nodes)), options);
}

std::shared_ptr<NumaBlock> NumaAllocator::allocate_cpu_local(std::uint64_t size, int cpu, const BlockOptions& options) {
  machine_->require_this_system();
  const Decision nearest = machine_->decide(NumaPolicy::local(), cpu);
  Decision decision = machine_->decide(NumaPolicy::bind(nearest.nodes));
  decision.reason = nearest.reason;
  return machine_->allocate(size, decision, options);
}

std::shared_ptr<ReplicatedBlock> NumaAllocator::allocate_replicated(std::uint64_t size, std::vector<int> nodes,
                                                                    const BlockOptions& options) {
  machine_->require_this_system();
  const NumaPolicy all = NumaPolicy::interleave(std::move(nodes));
  const std::vector<int> chosen = machine_->decide(all).nodes;
  std::vector<std::shared_ptr<NumaBlock>> blocks;
  for (const int node : chosen) blocks.push_back(allocate_on_node(size, node, options));
  return std::make_shared<ReplicatedBlock>(topology(), chosen, std::move(blocks));
}

std::vector<NodeStatistics> NumaAllocator::statistics() const { return machine_->statistics(); }

}  // namespace vm::mem::numa
