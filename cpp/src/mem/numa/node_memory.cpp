// Linux: sysfs.
#include "vm/mem/numa/node_memory.hpp"

#include <fstream>
#include <sstream>
#include <string_view>

#include "mem/pages/huge_pages.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::numa {

namespace {

std::string directory(int node, const std::string& root) {
  return root + "/sys/devices/system/node/node" + std::to_string(node);
}

[[noreturn]] void throw_strange(const std::string& path, const std::string& line) {
  throw InvalidConfig(path + " holds \"" + line.substr(0, 80) + "\", which is not what the kernel writes there");
}

/// Lines of "Node 0 MemTotal:  1234 kB". Newer kernels have more of them, some without a unit.
void read_meminfo(const std::string& path, NodeMemory& memory) {
  std::ifstream file(path);
  std::string line;
  std::uint64_t cache = 0;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string node;
    std::string number;
    std::string name;
    std::uint64_t value = 0;
    if (!(words >> node >> number >> name >> value) || node != "Node") throw_strange(path, line);
    const std::uint64_t bytes = value * 1024;
    if (name == "MemTotal:") memory.total = bytes;
    if (name == "MemFree:") memory.free = bytes;
    if (name == "Active(file):" || name == "Inactive(file):" || name == "SReclaimable:") cache += bytes;
  }
  memory.available = memory.free + cache;
}

void read_numastat(const std::string& path, NodeMemory& memory) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t value = 0;
    if (!(words >> name >> value)) throw_strange(path, line);
    if (name == "numa_hit") memory.numa_hits = value;
    if (name == "numa_miss") memory.numa_misses = value;
    if (name == "numa_foreign") memory.numa_foreign = value;
    if (name == "interleave_hit") memory.interleave_hits = value;
    if (name == "local_node") memory.local_pages = value;
    if (name == "other_node") memory.other_pages = value;
  }
}

}  // namespace

NodeMemory node_memory(int node, const std::string& root) {
  const std::string path = directory(node, root);
  if (!std::ifstream(path + "/meminfo")) {
    throw NotSupported("this system does not tell of the memory of node " + std::to_string(node) + " (" + path +
                       "/meminfo is missing)");
  }
  NodeMemory memory;
  memory.node = node;
  read_meminfo(path + "/meminfo", memory);
  read_numastat(path + "/numastat", memory);
  return memory;
}

std::uint64_t free_huge_pages(int node, HugePages kind, const std::string& root) {
  std::ifstream file(directory(node, root) + "/hugepages/hugepages-" + std::to_string(reserved_page_size(kind) / 1024) +
                     "kB/free_hugepages");
  std::uint64_t count = 0;
  file >> count;
  return count;
}

}  // namespace vm::mem::numa
