#include "vm/mem/prefetch/free_neighbours.hpp"

#include "vm/core/error.hpp"

namespace vm::mem::prefetch {

namespace {

const FreeNeighboursConfig& checked(const FreeNeighboursConfig& config) {
  require_between("FreeNeighbours: group", config.group, 2, 16);
  if ((config.group & (config.group - 1)) != 0) {
    throw InvalidConfig("FreeNeighbours: group must be 2, 4, 8 or 16, as many entries as fill a cache line, got " +
                        std::to_string(config.group));
  }
  require_between("FreeNeighbours: counter_bits", config.counter_bits, 2, 16);
  require_between("FreeNeighbours: threshold", config.threshold, 0, (std::uint64_t{1} << config.counter_bits) - 2);
  require_between("FreeNeighbours: lines", config.lines, 1, 65536);
  return config;
}

}  // namespace

FreeNeighbours::FreeNeighbours(const FreeNeighboursConfig& config) : config_(checked(config)), lines_(config.lines) {}

std::string FreeNeighbours::describe() const {
  return "FreeNeighbours(group=" + std::to_string(config_.group) + ", threshold=" + std::to_string(config_.threshold) +
         ", counter_bits=" + std::to_string(config_.counter_bits) + ", lines=" + std::to_string(config_.lines) + ")";
}

std::unique_ptr<Prefetcher> FreeNeighbours::fresh() const { return std::make_unique<FreeNeighbours>(config_); }

std::uint32_t FreeNeighbours::counter(std::int64_t distance) const noexcept {
  const auto limit = static_cast<std::int64_t>(config_.group);
  if (distance <= -limit || distance >= limit) return 0;
  return counters_[static_cast<std::size_t>(distance + static_cast<std::int64_t>(max_group))];
}

void FreeNeighbours::reward(std::size_t at) noexcept {
  const std::uint32_t most = (std::uint32_t{1} << config_.counter_bits) - 1;
  if (++counters_[at] < most) return;
  for (std::uint32_t& counter : counters_) counter /= 2;
}

void FreeNeighbours::learn_and_propose(const Event& event, Candidates& out) noexcept {
  const std::uint64_t first = event.page & ~std::uint64_t{config_.group - 1};
  const auto own = static_cast<std::uint8_t>(event.page - first);
  const auto own_bit = static_cast<std::uint16_t>(1U << own);
  if (Line* line = lines_.find(event.page / config_.group)) {
    if ((line->untouched & own_bit) != 0) reward(max_group + own - line->walked);
    line->untouched = static_cast<std::uint16_t>(line->untouched & ~own_bit);
  } else {
    lines_.insert(event.page / config_.group, {own, static_cast<std::uint16_t>(~own_bit)});
  }
  for (std::size_t i = 0; i < config_.group; ++i) {
    if (counters_[max_group + i - own] > config_.threshold) out.push(first + i);
  }
}

void FreeNeighbours::forget() noexcept {
  counters_.fill(0);
  lines_.clear();
}

}  // namespace vm::mem::prefetch
