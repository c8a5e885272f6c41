#include "vm/core/cache.hpp"

namespace vm {

std::string to_string(CacheType type) {
  switch (type) {
    case CacheType::unified: return "unified";
    case CacheType::data: return "data";
    case CacheType::instruction: return "instruction";
  }
  return "unified";
}

std::string cpu_list(const std::vector<int>& cpus) {
  std::string text;
  for (std::size_t first = 0; first < cpus.size();) {
    std::size_t last = first;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(cpus[first]);
    if (last != first) text += '-' + std::to_string(cpus[last]);
    first = last + 1;
  }
  return text;
}

}  // namespace vm
