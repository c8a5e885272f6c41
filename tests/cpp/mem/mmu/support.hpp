#pragma once
// An MMU over fresh memory, in every configuration that matters.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/mmu/mmu.hpp"

namespace vm::mem {

inline constexpr std::uint64_t mib = std::uint64_t{1} << 20;

inline paging::X86Config long_mode(std::uint64_t root = 0x1000) {
  paging::X86Config config;
  config.root = root;
  return config;
}

struct NamedConfig {
  std::string name;
  MmuConfig config;
};

/// Small TLBs, so that entries are evicted all the time; with and without walk cache and prefetcher.
inline std::vector<NamedConfig> mmu_configs() {
  std::vector<NamedConfig> configs;
  for (const tlb::Strategy strategy : {tlb::Strategy::multi_level, tlb::Strategy::concurrent, tlb::Strategy::hybrid}) {
    NamedConfig plain{tlb::to_string(strategy), {}};
    plain.config.tlb.strategy = strategy;
    plain.config.tlb.l1_size = 8;
    plain.config.tlb.l2_size = 16;
    plain.config.tlb.l3_size = 32;
    plain.config.walk_cache = {{4, 4, 2, 2}};
    configs.push_back(plain);

    NamedConfig bare = plain;
    bare.name += "_no_walk_cache";
    bare.config.walk_cache = tlb::WalkCacheConfig::off();
    configs.push_back(bare);

    NamedConfig prefetching = plain;
    prefetching.name += "_prefetch";
    prefetching.config.tlb.enable_prefetch = true;
    configs.push_back(prefetching);

    NamedConfig predicting = prefetching;
    predicting.name += "_prediction";
    predicting.config.tlb.enable_prediction = true;
    configs.push_back(predicting);
  }
  for (std::size_t plain : {std::size_t{0}, std::size_t{4}, std::size_t{8}}) {
    NamedConfig through = configs[plain];
    through.name += "_arrays_through";
    through.config.batches = BatchWay::through_tlb;
    configs.push_back(through);
  }
  NamedConfig exclusive{"exclusive", configs[0].config};
  exclusive.config.tlb.inclusion = tlb::Inclusion::exclusive;
  configs.push_back(exclusive);
  for (const tlb::FlushPolicy policy : {tlb::FlushPolicy::intelligent, tlb::FlushPolicy::adaptive}) {
    NamedConfig flushing{tlb::to_string(policy), configs[0].config};
    flushing.config.tlb.flush_policy = policy;
    configs.push_back(flushing);
  }
  return configs;
}

}  // namespace vm::mem
