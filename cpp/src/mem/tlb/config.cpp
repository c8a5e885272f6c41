#include "vm/mem/tlb/config.hpp"

#include <string>

#include "vm/core/error.hpp"

namespace vm::mem::tlb {

namespace {

[[noreturn]] void refuse(const std::string& message) { throw InvalidConfig(message); }

std::string level_name(std::size_t level) { return "l" + std::to_string(level + 1); }

void validate_simple(const std::string& name, std::uint32_t size, std::uint32_t ways) {
  if (ways == 0) refuse(name + "_ways is 0; an entry needs at least one way");
  if (size % ways != 0)
    refuse(name + "_size is " + std::to_string(size) + ", which is not a multiple of " + name + "_ways (" +
           std::to_string(ways) + "); sets are of equal size");
  if (size > largest_array)
    refuse(name + "_size is " + std::to_string(size) + "; at most " + std::to_string(largest_array) +
           " entries are possible");
}

void validate_sizes(const TlbConfig& config) {
  if (config.l1_size == 0) refuse("l1_size is 0; a TLB has a first level");
  if (config.l2_size == 0 && config.l3_size != 0 && config.strategy == Strategy::multi_level)
    refuse("l2_size is 0 but l3_size is " + std::to_string(config.l3_size) + "; make the second level the l2");
  validate_simple("l1", config.l1_size, config.l1_ways);
  if (config.l2_size != 0) validate_simple("l2", config.l2_size, config.l2_ways);
  if (config.l3_size != 0) validate_simple("l3", config.l3_size, config.l3_ways);
  if (config.l3_size == 0 && config.strategy != Strategy::multi_level)
    refuse(std::string("l3_size is 0; the shared level of strategy '") + to_string(config.strategy) +
           "' needs entries");
}

void validate_concurrent(const TlbConfig& config) {
  const std::string strategy = std::string("strategy '") + to_string(config.strategy) + "'";
  const auto check_ways = [&](const char* name, std::uint32_t ways) {
    if (ways > most_concurrent_ways)
      refuse(std::string(name) + " is " + std::to_string(ways) + "; with " + strategy + " there are at most " +
             std::to_string(most_concurrent_ways));
  };
  if (config.strategy == Strategy::hybrid) check_ways("l1_ways", config.l1_ways);
  check_ways("l3_ways", config.l3_ways);
  if (config.replacement != TlbConfig{}.replacement)
    refuse(std::string("replacement is '") + to_string(config.replacement) + "' with " + strategy +
           ", which replaces in turn whatever is asked; leave it out, or use strategy 'multi_level'");
}

void validate_array(const ArrayConfig& array, const std::string& name) {
  if (array.sets == 0) refuse(name + " has 0 sets; it needs at least one");
  if (array.ways == 0) refuse(name + " has 0 ways; it needs at least one");
  if (array.entries() > largest_array)
    refuse(name + " has " + std::to_string(array.sets) + " sets of " + std::to_string(array.ways) + " ways; at most " +
           std::to_string(largest_array) + " entries are possible");
}

void validate_level(const LevelConfig& level, const std::string& name) {
  if (level.arrays.empty()) refuse(name + " has no arrays; it needs at least one");
  std::uint64_t named = 0;
  bool takes_rest = false;
  for (std::size_t a = 0; a < level.arrays.size(); ++a) {
    const ArrayConfig& array = level.arrays[a];
    const std::string array_name = name + " array " + std::to_string(a);
    validate_array(array, array_name);
    if (array.page_sizes.empty()) {
      if (takes_rest) refuse(array_name + " is the second one of its level that names no page sizes; name some");
      takes_rest = true;
    }
    for (const std::uint8_t size : array.page_sizes) {
      if (size < smallest_page_log2 || size > largest_page_log2)
        refuse(array_name + " names pages of 2^" + std::to_string(size) + " bytes; pages have 2^" +
               std::to_string(smallest_page_log2) + " to 2^" + std::to_string(largest_page_log2));
      if ((named >> size & 1) != 0)
        refuse(array_name + " names pages of 2^" + std::to_string(size) + " bytes, which " + name +
               " already has; a size has one place in a level");
      named |= std::uint64_t{1} << size;
    }
  }
}

void validate_levels(const TlbConfig& config) {
  if (config.strategy != Strategy::multi_level)
    refuse(std::string("levels are given with strategy '") + to_string(config.strategy) +
           "'; they describe a 'multi_level' TLB, the others take the sizes and ways");
  if (config.levels.size() > 8)
    refuse("there are " + std::to_string(config.levels.size()) + " levels; at most 8 are possible");
  for (std::size_t l = 0; l < config.levels.size(); ++l) validate_level(config.levels[l], level_name(l));
}

}  // namespace

void validate(const TlbConfig& config) {
  if (config.levels.empty())
    validate_sizes(config);
  else
    validate_levels(config);
  if (config.strategy != Strategy::multi_level) validate_concurrent(config);
  if (config.flush_policy == FlushPolicy::batched && config.flush_batch == 0)
    refuse("flush_batch is 0; a batch of flushes has at least one");
  if (config.flush_policy == FlushPolicy::delayed && config.flush_delay_ns == 0)
    refuse("flush_delay_ns is 0; flush_policy 'immediate' does not delay");
  if (config.enable_prefetch && config.prefetch_distance == 0)
    refuse("prefetch_distance is 0; a prefetcher looks at least one page ahead");
  if (config.enable_prediction && !config.enable_prefetch)
    refuse("enable_prediction is true without enable_prefetch; it decides which prefetches are worth a walk");
}

std::vector<LevelConfig> levels_of(const TlbConfig& config) {
  if (!config.levels.empty()) return config.levels;
  std::vector<LevelConfig> levels;
  const auto add = [&](std::uint32_t size, std::uint32_t ways) {
    if (size != 0) levels.push_back({{{size / ways, ways, config.replacement, {}}}});
  };
  add(config.l1_size, config.l1_ways);
  add(config.l2_size, config.l2_ways);
  add(config.l3_size, config.l3_ways);
  return levels;
}

}  // namespace vm::mem::tlb
