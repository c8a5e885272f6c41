#include "vm/core/topology.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <tuple>

#include "core/affinity.hpp"
#include "core/synthetic.hpp"
#include "core/topology_sources.hpp"
#include "vm/core/error.hpp"

namespace vm {

namespace detail {

void sort_topology(Topology& topology) {
  const auto by_cpus = [](const auto& a, const auto& b) { return a.cpus < b.cpus; };
  std::sort(topology.nodes.begin(), topology.nodes.end(),
            [](const NumaNode& a, const NumaNode& b) { return a.id < b.id; });
  std::sort(topology.packages.begin(), topology.packages.end(), by_cpus);
  std::sort(topology.cores.begin(), topology.cores.end(), by_cpus);
  std::sort(topology.caches.begin(), topology.caches.end(), [](const Cache& a, const Cache& b) {
    return std::tie(a.level, a.type, a.cpus) < std::tie(b.level, b.type, b.cpus);
  });
}

}  // namespace detail

namespace {

/// The kernel's answer for this thread, in place of what a description allows.
void apply_affinity(Topology& topology) {
  const std::vector<int> affinity = allowed_cpus();
  if (affinity.empty()) return;
  std::vector<int> allowed;
  std::set_intersection(topology.allowed_cpus.begin(), topology.allowed_cpus.end(), affinity.begin(), affinity.end(),
                        std::back_inserter(allowed));
  topology.allowed_cpus = std::move(allowed);
}

Topology detect_by_hwloc() {
  Topology topology = detail::read_hwloc_machine();
  if (!topology.is_this_system) return topology;
  apply_affinity(topology);
#if defined(__linux__)
  // hwloc keeps no matrix for a single node.
  if (topology.distances.empty()) topology.distances = detail::read_sysfs_distances("", topology.nodes);
#endif
  return topology;
}

Topology detect_by_sysfs() {
#if defined(__linux__)
  Topology topology = detail::read_sysfs_topology("");
  topology.is_this_system = true;
  apply_affinity(topology);
  return topology;
#else
  throw NotSupported("only Linux has sysfs; build vm_core with hwloc (-DVM_HWLOC=ON) to learn this machine's topology");
#endif
}

}  // namespace

const NumaNode& Topology::node_of(int cpu) const {
  for (const NumaNode& node : nodes) {
    if (std::binary_search(node.cpus.begin(), node.cpus.end(), cpu)) return node;
  }
  throw OutOfRange("no node has CPU " + std::to_string(cpu) + "; the CPUs are " + cpu_list(cpus),
                   static_cast<std::uint64_t>(cpu), 1);
}

Topology Topology::detect(TopologySource source) {
  if (source == TopologySource::automatic) {
    source = detail::have_hwloc() ? TopologySource::hwloc : TopologySource::sysfs;
  }
  return source == TopologySource::hwloc ? detect_by_hwloc() : detect_by_sysfs();
}

Topology Topology::from_sysfs(const std::string& root) { return detail::read_sysfs_topology(root); }

Topology Topology::from_hwloc_xml(std::string_view text) { return detail::read_hwloc_xml(text); }

Topology Topology::from_hwloc_xml_file(const std::string& path) {
  // Opening a directory succeeds, and only some C++ libraries notice when they read.
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    throw PlatformError("cannot read " + path + ": " + std::strerror(EISDIR), EISDIR);
  }
  std::ifstream file(path, std::ios::binary);
  std::string text;
  char chunk[65536];
  while (file && text.size() <= detail::xml_limit) {
    file.read(chunk, sizeof chunk);
    text.append(chunk, static_cast<std::size_t>(file.gcount()));
  }
  if (!file.is_open() || file.bad()) {
    const int code = errno;
    throw PlatformError("cannot read " + path + ": " + std::strerror(code), code);
  }
  return detail::read_hwloc_xml(text);
}

Topology Topology::from_synthetic(const std::string& description) {
  detail::check_synthetic(description);
  return detail::read_hwloc_synthetic(description);
}

}  // namespace vm
