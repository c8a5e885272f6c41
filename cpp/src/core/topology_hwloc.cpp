#include "core/topology_sources.hpp"
#include "vm/core/error.hpp"

#if defined(VM_HAVE_HWLOC)

#include <hwloc.h>
#include <hwloc/distances.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

namespace vm::detail {

namespace {

// The largest machines have a few thousand CPUs; an index beyond this comes from a description.
constexpr unsigned id_limit = 1U << 20;

struct Destroy {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using Handle = std::unique_ptr<hwloc_topology, Destroy>;

Handle make_topology() {
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) throw ResourceExhausted("hwloc has no memory for a topology");
  Handle handle(topology);
  // Also what the cgroup forbids, which allowed_cpus tells apart; and the instruction caches.
  hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
  hwloc_topology_set_icache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_ALL);
  return handle;
}

/// Copies a loaded hwloc topology.
class Reader {
 public:
  explicit Reader(hwloc_topology_t topology) : topology_(topology) {}

  Topology read() {
    result_.source = std::string("hwloc ") + HWLOC_VERSION;
    result_.is_this_system = hwloc_topology_is_thissystem(topology_) != 0;
    read_cpus();
    read_nodes();
    read_packages_and_cores();
    read_caches();
    sort_topology(result_);
    read_distances();
    return std::move(result_);
  }

 private:
  template <class Visit>
  void each(hwloc_obj_type_t type, Visit visit) {
    for (hwloc_obj_t object = nullptr; (object = hwloc_get_next_obj_by_type(topology_, type, object)) != nullptr;) {
      visit(object);
    }
  }

  int id_of(hwloc_obj_t object) {
    // hwloc numbers what the system does not.
    const unsigned id = object->os_index == HWLOC_UNKNOWN_INDEX ? object->logical_index : object->os_index;
    if (id >= id_limit) throw InvalidConfig("the topology has an object number " + std::to_string(id) + ", too large");
    return static_cast<int>(id);
  }

  std::vector<int> members(hwloc_const_bitmap_t set) {
    std::vector<int> cpus;
    if (set == nullptr) return cpus;
    for (const int cpu : result_.cpus) {
      if (hwloc_bitmap_isset(set, static_cast<unsigned>(cpu)) != 0) cpus.push_back(cpu);
    }
    return cpus;
  }

  void read_cpus() {
    each(HWLOC_OBJ_PU, [this](hwloc_obj_t object) { result_.cpus.push_back(id_of(object)); });
    std::sort(result_.cpus.begin(), result_.cpus.end());
    if (result_.cpus.empty()) throw InvalidConfig("the topology has no CPU");
    if (std::adjacent_find(result_.cpus.begin(), result_.cpus.end()) != result_.cpus.end()) {
      throw InvalidConfig("the topology has the same CPU twice");
    }
    result_.allowed_cpus = members(hwloc_topology_get_allowed_cpuset(topology_));
  }

  void read_nodes() {
    each(HWLOC_OBJ_NUMANODE, [this](hwloc_obj_t object) {
      const std::uint64_t memory = object->attr == nullptr ? 0 : object->attr->numanode.local_memory;
      result_.nodes.push_back({id_of(object), members(object->cpuset), memory});
    });
  }

  void read_packages_and_cores() {
    each(HWLOC_OBJ_PACKAGE, [this](hwloc_obj_t object) {
      result_.packages.push_back({id_of(object), members(object->cpuset)});
    });
    each(HWLOC_OBJ_CORE, [this](hwloc_obj_t object) {
      const hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(topology_, HWLOC_OBJ_PACKAGE, object);
      result_.cores.push_back({id_of(object), package == nullptr ? -1 : id_of(package), members(object->cpuset)});
    });
  }

  void read_caches() {
    for (int type = HWLOC_OBJ_TYPE_MIN; type < HWLOC_OBJ_TYPE_MAX; ++type) {
      const auto cache_type = static_cast<hwloc_obj_type_t>(type);
      if (hwloc_obj_type_is_cache(cache_type) == 0) continue;
      each(cache_type, [this](hwloc_obj_t object) { read_cache(object); });
    }
  }

  void read_cache(hwloc_obj_t object) {
    if (object->attr == nullptr) return;
    const auto& attributes = object->attr->cache;
    Cache cache;
    cache.level = static_cast<int>(attributes.depth);
    cache.type = attributes.type == HWLOC_OBJ_CACHE_DATA          ? CacheType::data
                 : attributes.type == HWLOC_OBJ_CACHE_INSTRUCTION ? CacheType::instruction
                                                                  : CacheType::unified;
    cache.size = attributes.size;
    cache.line_size = attributes.linesize;
    if (attributes.associativity > 0) cache.ways = static_cast<std::uint32_t>(attributes.associativity);
    if (attributes.associativity < 0 && cache.line_size != 0) {  // fully associative
      cache.ways = static_cast<std::uint32_t>(std::min<std::uint64_t>(cache.size / cache.line_size, UINT32_MAX));
    }
    cache.cpus = members(object->cpuset);
    result_.caches.push_back(std::move(cache));
  }

  void read_distances() {
    struct Release {
      hwloc_topology_t topology;
      void operator()(hwloc_distances_s* distances) const { hwloc_distances_release(topology, distances); }
    };
    unsigned count = 1;
    hwloc_distances_s* found = nullptr;
    const int error = hwloc_distances_get_by_type(topology_, HWLOC_OBJ_NUMANODE, &count, &found,
                                                  HWLOC_DISTANCES_KIND_MEANS_LATENCY, 0);
    if (error != 0 || count == 0 || found == nullptr) return;
    const std::unique_ptr<hwloc_distances_s, Release> distances(found, Release{topology_});
    std::vector<std::size_t> position;  // of each of the matrix's objects in our nodes
    for (unsigned i = 0; i < distances->nbobjs; ++i) position.push_back(position_of(distances->objs[i]));
    const std::size_t nodes = result_.nodes.size();
    std::vector<std::size_t> sorted = position;
    std::sort(sorted.begin(), sorted.end());
    // Only a matrix of exactly our nodes says what `distances` promises.
    for (std::size_t i = 0; i < nodes; ++i) {
      if (sorted.size() != nodes || sorted[i] != i) return;
    }
    result_.distances.assign(nodes, std::vector<std::uint64_t>(nodes));
    for (std::size_t from = 0; from < nodes; ++from) {
      for (std::size_t to = 0; to < nodes; ++to) {
        result_.distances[position[from]][position[to]] = distances->values[from * nodes + to];
      }
    }
  }

  std::size_t position_of(hwloc_obj_t object) {
    if (object == nullptr) return result_.nodes.size();
    const int id = id_of(object);
    const auto found =
        std::find_if(result_.nodes.begin(), result_.nodes.end(), [id](const NumaNode& node) { return node.id == id; });
    return static_cast<std::size_t>(found - result_.nodes.begin());
  }

  hwloc_topology_t topology_;
  Topology result_;
};

}  // namespace

bool have_hwloc() noexcept { return true; }

Topology read_hwloc_machine() {
  const Handle handle = make_topology();
  if (hwloc_topology_load(handle.get()) != 0) {
    throw PlatformError(std::string("hwloc cannot read this machine: ") + std::strerror(errno), errno);
  }
  return Reader(handle.get()).read();
}

Topology read_hwloc_synthetic(const std::string& description) {
  const Handle handle = make_topology();
  if (hwloc_topology_set_synthetic(handle.get(), description.c_str()) != 0 || hwloc_topology_load(handle.get()) != 0) {
    throw InvalidConfig("hwloc does not accept the synthetic description '" + description.substr(0, 80) +
                        "'; one looks like 'node:2 core:4 pu:2'");
  }
  return Reader(handle.get()).read();
}

}  // namespace vm::detail

#else

namespace vm::detail {

namespace {

[[noreturn]] void refuse() {
  throw NotSupported("this build of vm_core has no hwloc; install libhwloc-dev and pkg-config, and build it again");
}

}  // namespace

bool have_hwloc() noexcept { return false; }
Topology read_hwloc_machine() { refuse(); }
Topology read_hwloc_synthetic(const std::string&) { refuse(); }

}  // namespace vm::detail

#endif
