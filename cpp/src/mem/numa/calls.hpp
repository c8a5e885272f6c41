#pragma once
/// \file
/// The system calls of memory policies as functions that throw nothing and allocate nothing. Called directly: their C
/// wrappers are libnuma's, which is not everywhere, and some are younger than it.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vm/mem/numa/policy.hpp"

namespace vm::mem::numa {

/// The kernel's largest number of nodes (CONFIG_NODES_SHIFT is at most 10).
inline constexpr int node_limit = 1024;

/// A set of nodes as the kernel takes it.
struct NodeMask {
  static constexpr std::size_t word_bits = 8 * sizeof(unsigned long);
  unsigned long words[static_cast<std::size_t>(node_limit) / word_bits] = {};

  NodeMask() noexcept = default;
  /// Every one of `nodes` is from 0 to node_limit - 1.
  explicit NodeMask(const std::vector<int>& nodes) noexcept;
  std::vector<int> nodes() const;
  bool operator==(const NodeMask& other) const noexcept;
};

/// 0, or errno; ENOSYS where there is no such call. `start` is the beginning of a page.
int set_policy(void* start, std::size_t size, const Decision& decision) noexcept;
/// set_mempolicy_home_node(2), for memory that has a policy.
int set_home_node(void* start, std::size_t size, int node) noexcept;
/// The kernel's mode (MPOL_*) and nodes for the page at `address`.
int get_policy(const void* address, int& mode, NodeMask& nodes) noexcept;
/// The nodes that this thread's cgroup lets it use.
int get_allowed(NodeMask& nodes) noexcept;
/// move_pages(2) of this process: with `targets` null, where the pages are; else moves them. `status` holds a node or
/// a negative errno for each.
int move_pages(std::size_t count, void** pages, const int* targets, int* status) noexcept;
/// migrate_pages(2) of this process; `left` counts the pages that stayed.
int migrate_process_pages(const NodeMask& from, const NodeMask& to, std::uint64_t& left) noexcept;
/// Whether `mode` of the kernel is what `decision` asks for.
bool kernel_mode_is(int mode, Mode wanted) noexcept;
/// The CPU on which this thread runs; -1 where the system does not say.
int current_cpu() noexcept;

}  // namespace vm::mem::numa
