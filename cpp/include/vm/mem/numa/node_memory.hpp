#pragma once
/// \file
/// What the kernel says about the memory of one node.

#include <cstdint>
#include <string>

#include "vm/mem/pages/mapping.hpp"

namespace vm::mem::numa {

/// From /sys/devices/system/node/nodeN/meminfo and numastat. Bytes, and pages counted since the system started
/// (the kernel's Documentation/admin-guide/numastat.rst); 0 where this kernel does not say.
struct NodeMemory {
  int node = 0;
  std::uint64_t total = 0;
  std::uint64_t free = 0;
  /// `free` with what the kernel can take back without writing: the cache of files, and reclaimable slabs. A sum of
  /// what it says, not a promise.
  std::uint64_t available = 0;
  std::uint64_t numa_hits = 0;        ///< pages wanted on this node and got
  std::uint64_t numa_misses = 0;      ///< pages given though another node was wanted
  std::uint64_t numa_foreign = 0;     ///< pages wanted on this node and got from another
  std::uint64_t interleave_hits = 0;  ///< pages that an interleaving wanted here and got
  std::uint64_t local_pages = 0;      ///< pages given to threads that ran on this node
  std::uint64_t other_pages = 0;      ///< pages given to threads that ran elsewhere
};

/// `root`: another root directory, for a copy of another machine's /sys. Throws NotSupported when there is no such node
/// there (or no sysfs), InvalidConfig when a file holds what the kernel would not write.
NodeMemory node_memory(int node, const std::string& root = "");

/// Reserved huge pages of one node that nobody uses, of a size_2m or size_1g kind. 0 where there is no such pool.
std::uint64_t free_huge_pages(int node, HugePages kind, const std::string& root = "");

}  // namespace vm::mem::numa
