#pragma once
/// \file
/// Where this machine's CPUs, caches and memory are. Through hwloc when the library was built with it, else from
/// Linux's sysfs; `Topology::source` says which. Nothing is guessed: what the source does not tell stays empty.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vm/core/cache.hpp"

namespace vm {

struct NumaNode {
  int id = 0;
  std::vector<int> cpus;           ///< ascending; empty for a node of memory only
  std::uint64_t memory_bytes = 0;  ///< all of the node's memory, free or not; 0 when not known

  friend bool operator==(const NumaNode& a, const NumaNode& b) {
    return a.id == b.id && a.cpus == b.cpus && a.memory_bytes == b.memory_bytes;
  }
};

/// One processor package (socket).
struct Package {
  int id = 0;
  std::vector<int> cpus;  ///< ascending

  friend bool operator==(const Package& a, const Package& b) { return a.id == b.id && a.cpus == b.cpus; }
};

/// One physical core; its CPUs are its hardware threads.
struct Core {
  int id = 0;             ///< the system's number: unique in a package, not in the machine
  int package = 0;        ///< `Package::id`; -1 when not known
  std::vector<int> cpus;  ///< ascending

  friend bool operator==(const Core& a, const Core& b) {
    return a.id == b.id && a.package == b.package && a.cpus == b.cpus;
  }
};

/// Where `Topology::detect` shall ask.
enum class TopologySource { automatic, hwloc, sysfs };

struct Topology {
  std::string source;           ///< "hwloc 2.9.0", "sysfs", "hwloc XML"
  bool is_this_system = false;  ///< false for a description (XML, synthetic, other root): do not bind to its CPUs
  std::vector<int> cpus;        ///< online CPUs, ascending
  /// Those of `cpus` on which the thread that asked may run, after its affinity and its cgroup's cpuset. Of a
  /// description: those that it allows.
  std::vector<int> allowed_cpus;
  std::vector<NumaNode> nodes;    ///< by id; a machine without NUMA is one node
  std::vector<Package> packages;  ///< by first CPU
  std::vector<Core> cores;        ///< by first CPU
  std::vector<Cache> caches;      ///< by level, type, first CPU
  /// Relative access cost, `distances[from][to]` by position in `nodes`: 10 is local by the firmware's convention (ACPI
  /// SLIT). Empty when not known.
  std::vector<std::vector<std::uint64_t>> distances;

  /// The node that `cpu` belongs to. \throws OutOfRange when no node has it.
  const NumaNode& node_of(int cpu) const;

  /// Asks this machine. With hwloc its own environment variables apply (HWLOC_SYNTHETIC, HWLOC_XMLFILE, ...).
  /// \throws NotSupported when the wanted source is not there; \throws InvalidConfig when it contradicts itself.
  static Topology detect(TopologySource source = TopologySource::automatic);

  /// Reads sysfs and procfs below another root: `root`/sys/devices/system/... \throws InvalidConfig when there is no
  /// machine, or a file holds what the kernel would not write.
  static Topology from_sysfs(const std::string& root);

  /// hwloc's XML of format 2, as `lstopo --of xml` writes it. \throws InvalidConfig saying what is wrong in it, or that
  /// it is longer than 16 MiB; the file variant also PlatformError when the file cannot be read.
  static Topology from_hwloc_xml(std::string_view text);
  static Topology from_hwloc_xml_file(const std::string& path);

  /// hwloc's synthetic strings: "pack:2 [numa(memory=4GB)] l3:1 core:4 pu:2". Attributes are memory, size, and indexes
  /// as a list of numbers. \throws NotSupported in a build without hwloc; \throws InvalidConfig for another
  /// description, and for more than 65536 CPUs.
  static Topology from_synthetic(const std::string& description);

  friend bool operator==(const Topology& a, const Topology& b) {
    return a.source == b.source && a.is_this_system == b.is_this_system && a.cpus == b.cpus &&
           a.allowed_cpus == b.allowed_cpus && a.nodes == b.nodes && a.packages == b.packages && a.cores == b.cores &&
           a.caches == b.caches && a.distances == b.distances;
  }
  friend bool operator!=(const Topology& a, const Topology& b) { return !(a == b); }
};

}  // namespace vm
