#pragma once
/// \file
/// Distances that follow distances.

#include <cstdint>

#include "vm/mem/prefetch/lru_table.hpp"
#include "vm/mem/prefetch/prefetcher.hpp"

namespace vm::mem::prefetch {

struct DistanceConfig {
  std::uint32_t rows = 256;  ///< of the table; 1 to 2^20, a multiple of `ways`
  std::uint32_t ways = 1;    ///< rows of a set; 1 (direct-mapped, as in the paper) to 16
  std::uint32_t slots = 2;   ///< distances remembered per row; 1 to 8
};

/// Distance prefetching (DP): the distance between two consecutive events selects the row that says which distances
/// followed it, and each of them is proposed (Kandiraju & Sivasubramaniam, Going the Distance for TLB Prefetching, ISCA
/// 2002, section 2.4). Events of the same page as the one before say nothing, and are passed over.
class VM_API Distance final : public Prefetcher {
 public:
  /// Throws InvalidConfig.
  explicit Distance(const DistanceConfig& config = {});

  const DistanceConfig& config() const noexcept { return config_; }
  const char* name() const noexcept override { return "distance"; }
  std::string describe() const override;
  std::unique_ptr<Prefetcher> fresh() const override;

 private:
  void learn_and_propose(const Event& event, Candidates& out) noexcept override;
  void forget() noexcept override;

  DistanceConfig config_;
  LruTable<Successors> table_;
  std::uint64_t last_page_ = 0;
  std::uint64_t last_distance_ = 0;  // modulo 2^64; 0: none yet
  bool started_ = false;
};

}  // namespace vm::mem::prefetch
