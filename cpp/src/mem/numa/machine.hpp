#pragma once
/// \file
/// The machine that an allocator and its blocks stand on: its nodes, the way to the kernel, and the blocks alive.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "mem/numa/binder.hpp"
#include "vm/core/topology.hpp"
#include "vm/mem/numa/allocator.hpp"
#include "vm/mem/numa/block.hpp"

namespace vm::mem::numa {

/// A touched page that its nodes cannot give ends the process (SIGBUS for a reserved page, else the kernel's killer),
/// so their memory is counted before `size` bytes are. Who takes it in between cannot be seen from here. Throws
/// ResourceExhausted; nothing where nobody can say.
void require_room(std::uint64_t size, const Decision& decision, HugePages huge_pages);

class Machine : public std::enable_shared_from_this<Machine> {
 public:
  Machine(Topology topology, Through through);

  const Topology& topology() const noexcept { return topology_; }
  const std::string& through() const noexcept { return through_; }
  Decision decide(const NumaPolicy& policy) const;
  Decision decide(const NumaPolicy& policy, int cpu) const;

  /// Throws NotSupported when the topology is a description.
  void require_this_system() const;
  /// Binds a range. Throws when a strict decision is refused and pages could therefore lie elsewhere.
  Binding bind(void* start, std::uint64_t size, const Decision& decision) const;
  std::shared_ptr<NumaBlock> allocate(std::uint64_t size, const Decision& decision, const BlockOptions& options);
  std::vector<NodeStatistics> statistics() const;

  void enter(NumaBlock* block);
  void leave(NumaBlock* block) noexcept;
  void count_migration(const Migration& migration);

 private:
  Topology topology_;
  std::unique_ptr<Binder> binder_;
  std::string through_;
  mutable std::mutex mutex_;
  std::set<NumaBlock*> blocks_;                  // guarded by mutex_, like what follows
  std::map<int, std::uint64_t> allocations_;     // by node
  std::map<int, std::uint64_t> migrated_bytes_;  // by node
};

}  // namespace vm::mem::numa
