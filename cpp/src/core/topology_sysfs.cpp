// Topology from Linux's own files: Documentation/admin-guide/cputopology.rst,
// Documentation/ABI/stable/sysfs-devices-node.

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "core/sysfs.hpp"
#include "core/topology_sources.hpp"
#include "vm/core/error.hpp"

namespace vm::detail {

namespace {

std::string cpu_directory(const std::string& root, int cpu) {
  return root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
}

std::string node_directory(const std::string& root) { return root + "/sys/devices/system/node"; }

std::vector<int> read_online_cpus(const std::string& root) {
  const std::string path = root + "/sys/devices/system/cpu/online";
  const std::optional<std::string> text = sysfs::read_text(path);
  if (!text) throw InvalidConfig("there is no " + path + "; the root of a machine's sysfs is needed");
  std::vector<int> cpus = sysfs::parse_cpu_list(*text, path);
  if (cpus.empty()) throw InvalidConfig(path + " lists no CPU");
  return cpus;
}

/// The part of the list in the file that is online.
std::vector<int> read_cpus(const std::string& path, const std::vector<int>& online) {
  const std::vector<int> listed = sysfs::parse_cpu_list(sysfs::read_text(path).value_or(""), path);
  std::vector<int> cpus;
  std::set_intersection(listed.begin(), listed.end(), online.begin(), online.end(), std::back_inserter(cpus));
  return cpus;
}

/// -1 when the file is not there, or says so: the kernel writes -1 for a package that firmware does not describe.
int read_id(const std::string& path) {
  const std::optional<std::string> text = sysfs::read_text(path);
  if (!text || *text == "-1") return -1;
  const std::uint64_t id = sysfs::parse_number(*text, path);
  if (id > INT32_MAX) throw InvalidConfig(path + " holds '" + *text + "', not an id");
  return static_cast<int>(id);
}

/// Bytes in the line "... MemTotal:  4548820 kB"; 0 when the file or the line is not there.
std::uint64_t read_memory_total(const std::string& path) {
  const std::string text = sysfs::read_text(path).value_or("");
  const std::string key = "MemTotal:";
  const std::size_t found = text.find(key);
  if (found == std::string::npos) return 0;
  std::istringstream words(text.substr(found + key.size(), 64));
  std::string number, unit;
  words >> number >> unit;
  const std::uint64_t kilobytes = sysfs::parse_number(number, path);
  if (unit != "kB" || kilobytes > (UINT64_MAX >> 10)) throw InvalidConfig(path + " holds no size in kB after MemTotal");
  return kilobytes << 10;
}

void read_nodes(const std::string& root, Topology& topology) {
  const std::string online = node_directory(root) + "/online";
  const std::optional<std::string> ids = sysfs::read_text(online);
  if (!ids) {  // a kernel without NUMA support: all memory is equally near
    topology.nodes.push_back({0, topology.cpus, read_memory_total(root + "/proc/meminfo")});
    return;
  }
  for (const int id : sysfs::parse_cpu_list(*ids, online)) {
    const std::string directory = node_directory(root) + "/node" + std::to_string(id);
    topology.nodes.push_back(
        {id, read_cpus(directory + "/cpulist", topology.cpus), read_memory_total(directory + "/meminfo")});
  }
  topology.distances = read_sysfs_distances(root, topology.nodes);
}

void read_packages_and_cores(const std::string& root, Topology& topology) {
  std::map<int, Package> packages;
  std::set<int> in_a_core;
  for (const int cpu : topology.cpus) {
    const std::string directory = cpu_directory(root, cpu) + "/topology";
    const int package = read_id(directory + "/physical_package_id");
    if (package >= 0) {
      const auto [entry, is_new] = packages.try_emplace(package);
      entry->second.id = package;
      entry->second.cpus.push_back(cpu);
    }
    const int core = read_id(directory + "/core_id");
    if (core < 0 || in_a_core.count(cpu) != 0) continue;
    std::vector<int> threads = read_cpus(directory + "/thread_siblings_list", topology.cpus);
    if (!std::binary_search(threads.begin(), threads.end(), cpu)) {
      throw InvalidConfig(directory + "/thread_siblings_list does not hold its own CPU " + std::to_string(cpu));
    }
    in_a_core.insert(threads.begin(), threads.end());
    topology.cores.push_back({core, package, std::move(threads)});
  }
  for (auto& [id, package] : packages) topology.packages.push_back(std::move(package));
}

void read_caches(const std::string& root, Topology& topology) {
  for (const int cpu : topology.cpus) {
    for (Cache& cache : sysfs::read_caches(root, cpu)) {
      std::vector<int> shared;
      std::set_intersection(cache.cpus.begin(), cache.cpus.end(), topology.cpus.begin(), topology.cpus.end(),
                            std::back_inserter(shared));
      if (shared.empty()) shared.push_back(cpu);
      // Every CPU that shares a cache describes it again; the first one speaks for all.
      if (shared.front() != cpu) continue;
      cache.cpus = std::move(shared);
      topology.caches.push_back(std::move(cache));
    }
  }
}

}  // namespace

Distances read_sysfs_distances(const std::string& root, const std::vector<NumaNode>& nodes) {
  Distances distances;
  for (const NumaNode& node : nodes) {
    const std::string path = node_directory(root) + "/node" + std::to_string(node.id) + "/distance";
    const std::optional<std::string> text = sysfs::read_text(path);
    if (!text) return {};
    std::vector<std::uint64_t> row;
    std::istringstream words(*text);
    for (std::string word; words >> word;) row.push_back(sysfs::parse_number(word, path));
    if (row.size() != nodes.size()) {
      throw InvalidConfig(path + " holds " + std::to_string(row.size()) + " distances for " +
                          std::to_string(nodes.size()) + " nodes");
    }
    distances.push_back(std::move(row));
  }
  return distances;
}

Topology read_sysfs_topology(const std::string& root) {
  Topology topology;
  topology.source = "sysfs";
  topology.cpus = read_online_cpus(root);
  topology.allowed_cpus = topology.cpus;
  read_nodes(root, topology);
  read_packages_and_cores(root, topology);
  read_caches(root, topology);
  sort_topology(topology);
  return topology;
}

}  // namespace vm::detail
