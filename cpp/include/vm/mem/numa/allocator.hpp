#pragma once
/// \file
/// `NumaAllocator`: memory on the nodes that are asked for.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vm/core/topology.hpp"
#include "vm/mem/numa/block.hpp"
#include "vm/mem/numa/policy.hpp"
#include "vm/mem/numa/replicated.hpp"

namespace vm::mem {
class GuestMemory;
}

namespace vm::mem::numa {

struct BlockOptions {
  /// Decides what an interleaving deals out at a time: 2 MiB with `automatic` and `transparent`, where the block is
  /// that large; with `none` the smallest pages, also where the kernel would take huge ones of its own accord.
  HugePages huge_pages = HugePages::automatic;
  /// Puts pages under the memory at once. A policy without fallback always does: before that, nothing is anywhere.
  bool populate = false;
};

/// What this allocator's live blocks have on one node.
struct NodeStatistics {
  int node = 0;
  std::uint64_t allocations = 0;  ///< blocks ever made whose decision named this node
  std::uint64_t blocks = 0;       ///< of the live ones, those whose decision names it now
  /// Bytes of live blocks that are on it now, by asking the kernel for every page; nothing where it does not tell.
  std::optional<std::uint64_t> resident_bytes;
  /// Of them those of blocks whose decision does not name this node.
  std::optional<std::uint64_t> stray_bytes;
  std::uint64_t migrated_bytes = 0;  ///< that `migrate` and `place` brought here
};

struct PlaceOptions {
  bool populate = false;  ///< puts pages under the range afterwards
};

/// Allocates by policy. A block of a policy without fallback is populated and its pages are looked up before it is
/// given out: it is where it was asked to be, or the kernel tells nobody where pages are and `verify` says so. Of every
/// other block, `verify` tells at any time.
///
/// Makes memory in whole pages with a handful of system calls each: for large, long-lived memory, not for objects.
/// Any number of threads may call anything at once. Blocks live on when the allocator is gone.
class NumaAllocator {
 public:
  /// For this machine. Throws NotSupported when `through` is hwloc and hwloc may not bind here, and what
  /// Topology::detect throws.
  explicit NumaAllocator(NumaPolicy policy = NumaPolicy::local(), Through through = Through::automatic);
  /// For the machine that `topology` describes. When that is not this one, only `decide` works.
  NumaAllocator(Topology topology, NumaPolicy policy = NumaPolicy::local(), Through through = Through::automatic);

  const NumaPolicy& policy() const noexcept { return policy_; }
  const Topology& topology() const noexcept;
  /// "hwloc 2.9.0", or "mbind" with the reason why not hwloc.
  const std::string& through() const noexcept;
  /// What the kernel would be asked now, by the calling thread.
  Decision decide(const NumaPolicy& policy) const;

  /// `size` > 0 bytes of zeros by `policy`, or by this allocator's. Throws what `decide` does; NotSupported when the
  /// topology is a description, or the kernel does not take a policy without fallback; ResourceExhausted when the
  /// nodes of such a policy have not that much memory, or reserved pages are wanted that they do not have;
  /// InvalidConfig; PlatformError.
  std::shared_ptr<NumaBlock> allocate(std::uint64_t size, const BlockOptions& options = {});
  std::shared_ptr<NumaBlock> allocate(std::uint64_t size, const NumaPolicy& policy, const BlockOptions& options = {});

  /// NumaPolicy::local(): the calling thread's node, others when it is full.
  std::shared_ptr<NumaBlock> allocate_local(std::uint64_t size, const BlockOptions& options = {});
  /// NumaPolicy::bind: this node, verified.
  std::shared_ptr<NumaBlock> allocate_on_node(std::uint64_t size, int node, const BlockOptions& options = {});
  /// NumaPolicy::interleave.
  std::shared_ptr<NumaBlock> allocate_interleaved(std::uint64_t size, std::vector<int> nodes = {},
                                                  const BlockOptions& options = {});
  /// The node of `cpu` and no other, verified; where that has no memory, the nearest that has.
  std::shared_ptr<NumaBlock> allocate_cpu_local(std::uint64_t size, int cpu, const BlockOptions& options = {});
  /// A copy on each node, bound and verified; without nodes, on all that have memory and that this process may use.
  std::shared_ptr<ReplicatedBlock> allocate_replicated(std::uint64_t size, std::vector<int> nodes = {},
                                                       const BlockOptions& options = {});

  /// Has the kernel place the pages of [paddr, paddr + size) of guest memory by `policy`, and moves those that are
  /// there. The range begins and ends at pages of its memory (huge ones where those are reserved). What a policy
  /// without fallback asks for may come out otherwise, as pages that could not be moved: the verification says so. For
  /// a memfd the policy holds for everybody who maps it. Throws OutOfRange naming the hole, InvalidConfig for a part of
  /// a page, NotSupported naming a region whose bytes live in a file, where the kernel ignores policies, and what
  /// `allocate` throws; then nothing changed.
  Migration place(GuestMemory& memory, std::uint64_t paddr, std::uint64_t size, const NumaPolicy& policy,
                  const PlaceOptions& options = {});

  /// One for each node of the topology, in its order. Takes time in proportion to the bytes alive. Throws
  /// PlatformError.
  std::vector<NodeStatistics> statistics() const;

 private:
  std::shared_ptr<Machine> machine_;
  NumaPolicy policy_;
};

/// The nodes of the pages of [paddr, paddr + size) of guest memory, region after region. Throws OutOfRange naming the
/// hole, NotSupported where the kernel does not tell.
Placement placement_of(const GuestMemory& memory, std::uint64_t paddr, std::uint64_t size);

}  // namespace vm::mem::numa
