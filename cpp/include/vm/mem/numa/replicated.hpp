#pragma once
/// \file
/// `ReplicatedBlock`: the same bytes on several nodes, so that every reader has them near.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "vm/core/topology.hpp"
#include "vm/mem/numa/block.hpp"

namespace vm::mem::numa {

/// One NumaBlock for each node. The copies are equal when they are made, and after `synchronize`; who writes to one
/// through its pointer makes them differ. Any number of threads may read; writing, also by `write` and `synchronize`,
/// while others read is as racy as any memory.
class ReplicatedBlock {
 public:
  /// `blocks[i]` is on `nodes[i]`, ascending.
  ReplicatedBlock(const Topology& topology, std::vector<int> nodes, std::vector<std::shared_ptr<NumaBlock>> blocks);

  const std::vector<int>& nodes() const noexcept { return nodes_; }
  std::uint64_t size() const noexcept { return size_; }
  /// The copy on a node. Throws OutOfRange when there is none.
  const std::shared_ptr<NumaBlock>& on(int node) const;
  /// The copy nearest to the CPU that the calling thread runs on; a look into a table.
  const std::shared_ptr<NumaBlock>& local() const noexcept;

  /// Copies `size` bytes, which may lie in one of the copies, to `offset` of every copy. Throws OutOfRange,
  /// ClosedError; then nothing was written.
  void write(std::uint64_t offset, const void* source, std::uint64_t size);
  /// Makes the others equal to the copy on `node`. Throws OutOfRange, ClosedError.
  void synchronize(int node);
  /// Closes all copies.
  void close() noexcept;
  bool closed() const noexcept;

 private:
  std::vector<int> nodes_;
  std::vector<std::shared_ptr<NumaBlock>> blocks_;
  std::uint64_t size_;
  std::vector<std::size_t> nearest_;  // position in blocks_ by CPU
};

}  // namespace vm::mem::numa
