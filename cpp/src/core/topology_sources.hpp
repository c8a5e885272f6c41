#pragma once
/// \file
/// The ways to learn a topology, behind Topology's static members.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vm/core/topology.hpp"

namespace vm::detail {

using Distances = std::vector<std::vector<std::uint64_t>>;

/// Reads everything but `is_this_system`, and counts all online CPUs as allowed.
Topology read_sysfs_topology(const std::string& root);

/// In the order of `nodes`; empty when the kernel does not tell. \throws InvalidConfig for a matrix that does not fit.
Distances read_sysfs_distances(const std::string& root, const std::vector<NumaNode>& nodes);

/// Orders every list as `Topology` promises.
void sort_topology(Topology& topology);

/// No topology needs a longer description.
inline constexpr std::size_t xml_limit = std::size_t{16} << 20;

Topology read_hwloc_xml(std::string_view text);

/// True in a build with hwloc; without it the functions below throw NotSupported.
bool have_hwloc() noexcept;
Topology read_hwloc_machine();
Topology read_hwloc_synthetic(const std::string& description);

}  // namespace vm::detail
