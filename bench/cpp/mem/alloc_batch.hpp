#pragma once
// Batches of blocks that are freed in another order than they were allocated in.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>

namespace alloc_bench {

inline constexpr std::size_t batch = 1000;

/// The order in which a batch is freed, the same for everybody.
inline const std::array<std::uint32_t, batch>& shuffled() {
  static const std::array<std::uint32_t, batch> order = [] {
    std::array<std::uint32_t, batch> all{};
    std::iota(all.begin(), all.end(), 0U);
    std::shuffle(all.begin(), all.end(), std::mt19937(1));
    return all;
  }();
  return order;
}

}  // namespace alloc_bench
