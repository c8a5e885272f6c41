#pragma once
/// \file
/// The page-table entries that come with a walk for nothing.

#include <array>
#include <cstddef>
#include <cstdint>

#include "vm/mem/prefetch/prefetcher.hpp"
#include "vm/mem/prefetch/recent_pages.hpp"

namespace vm::mem::prefetch {

struct FreeNeighboursConfig {
  std::uint32_t group = 8;          ///< leaf entries in a cache line: 8 of 8 bytes in 64, or 16 of 4; 2, 4, 8 or 16
  std::uint32_t threshold = 100;    ///< a distance is proposed when its counter is above; below 2^counter_bits - 1
  std::uint32_t counter_bits = 10;  ///< 2 to 16
  std::uint32_t lines = 9;          ///< cache lines remembered; 1 to 65536
};

/// Sampling-based free prefetching (SBFP): a walk reads a cache line of leaf entries, so the other pages of the aligned
/// group cost no memory access. Which are worth a TLB entry is learned per distance within the line: a table of
/// saturating counters (FDT) counts the events on pages at that distance from the walk that read their line, proposed
/// or not, and distances above the threshold are proposed. When a counter saturates all are halved (Vavouliotis et al.,
/// Exploiting Page Table Locality for Agile TLB Prefetching, ISCA 2021, section 4; group 8 and threshold 100 of 10 bits
/// are theirs). The paper samples 64 pages, the neighbours of 9 walks; here lines are kept, which takes one
/// look-up an event. Lines read by walks for prefetches are not counted on.
class VM_API FreeNeighbours final : public Prefetcher {
 public:
  /// Throws InvalidConfig.
  explicit FreeNeighbours(const FreeNeighboursConfig& config = {});

  const FreeNeighboursConfig& config() const noexcept { return config_; }
  /// The counter of a distance from -(group - 1) to group - 1; 0 for any other.
  std::uint32_t counter(std::int64_t distance) const noexcept;
  const char* name() const noexcept override { return "free_neighbours"; }
  std::string describe() const override;
  std::unique_ptr<Prefetcher> fresh() const override;

 private:
  static constexpr std::size_t max_group = 16;
  /// A line of leaf entries.
  struct Line {
    std::uint8_t walked = 0;      // the entry that it was read for
    std::uint16_t untouched = 0;  // a bit for each entry that no event was about yet
  };

  void learn_and_propose(const Event& event, Candidates& out) noexcept override;
  void forget() noexcept override;
  void reward(std::size_t at) noexcept;

  FreeNeighboursConfig config_;
  std::array<std::uint32_t, 2 * max_group> counters_{};  // of distance d at [d + max_group]
  RecentPages<Line> lines_;                              // by page / group
};

}  // namespace vm::mem::prefetch
