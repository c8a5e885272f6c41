#pragma once
/// \file
/// One processor cache, as the operating system or hwloc describes it.

#include <cstdint>
#include <string>
#include <vector>

namespace vm {

enum class CacheType : std::uint8_t { unified = 0, data = 1, instruction = 2 };

struct Cache {
  int level = 0;  ///< 1 is nearest to the core
  CacheType type = CacheType::unified;
  std::uint64_t size = 0;       ///< bytes; 0 when not known
  std::uint32_t line_size = 0;  ///< bytes; 0 when not known
  std::uint32_t ways = 0;       ///< associativity; 0 when not known
  std::vector<int> cpus;        ///< the CPUs that share it, ascending

  friend bool operator==(const Cache& a, const Cache& b) {
    return a.level == b.level && a.type == b.type && a.size == b.size && a.line_size == b.line_size &&
           a.ways == b.ways && a.cpus == b.cpus;
  }
  friend bool operator!=(const Cache& a, const Cache& b) { return !(a == b); }
};

/// "unified", "data", "instruction".
std::string to_string(CacheType type);

/// "0-3,8": CPUs, ascending, as the kernel writes them.
std::string cpu_list(const std::vector<int>& cpus);

}  // namespace vm
