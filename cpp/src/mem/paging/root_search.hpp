#pragma once
/// \file
/// What the scan for roots asks of the search for one format.

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "vm/mem/guest/region.hpp"
#include "vm/mem/paging/roots.hpp"

namespace vm::mem::paging {

/// Candidates that are compared with each other; more are not kept.
inline constexpr std::size_t max_ranked = 512;
/// A set of candidates, by the position of their roots in an ascending list.
using RootSet = std::bitset<max_ranked>;

/// A candidate, and how it relates to the others.
struct FoundRoot {
  RootCandidate candidate;
  std::size_t shape = 0;  ///< which geometry of top tables it has: the search's own numbering
  RootSet tables;         ///< the candidates' roots that are lower tables of this one
};

/// 0 to 100 from the evidence in `candidate` alone.
double score_root(const RootCandidate& candidate) noexcept;
/// By score; equals by the user's pages, because a process that has ended has none.
bool ranks_before(const FoundRoot& a, const FoundRoot& b) noexcept;

class RootSearch {
 public:
  virtual ~RootSearch() = default;
  /// Remembers what could be a top table among the aligned places that begin in [first, last], all in one region.
  virtual void collect(std::uint64_t first, std::uint64_t last) = 0;
  /// Follows the tables below what was collected and returns the best of it. `keep_going` is asked every few
  /// milliseconds; after false, results mean nothing.
  virtual std::vector<FoundRoot> rank(const std::function<bool()>& keep_going) = 0;
  /// Fills in how `found`, which `rank` returned, relates to `roots`: at most `max_ranked`, ascending, without
  /// duplicates, those of `found` among them.
  virtual void relate(const std::vector<std::uint64_t>& roots, const std::vector<FoundRoot*>& found,
                      const std::function<bool()>& keep_going) = 0;
};

/// Throws InvalidConfig. `memory` must outlive the search.
std::unique_ptr<RootSearch> make_root_search(const RegionTable& memory, const PagingConfig& config);

}  // namespace vm::mem::paging
