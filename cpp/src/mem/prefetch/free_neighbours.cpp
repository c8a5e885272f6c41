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
  require_between("FreeNeighbours: sampler", config.sampler, 1, 65536);
  require_between("FreeNeighbours: queue", config.queue, 1, 65536);
  return config;
}

}  // namespace

FreeNeighbours::FreeNeighbours(const FreeNeighboursConfig& config)
    : config_(checked(config)), proposed_(config.queue), sampled_(config.sampler) {}

std::string FreeNeighbours::describe() const {
  return "FreeNeighbours(group=" + std::to_string(config_.group) + ", threshold=" + std::to_string(config_.threshold) +
         ", counter_bits=" + std::to_string(config_.counter_bits) + ", sampler=" + std::to_string(config_.sampler) +
         ", queue=" + std::to_string(config_.queue) + ")";
}

std::unique_ptr<Prefetcher> FreeNeighbours::fresh() const { return std::make_unique<FreeNeighbours>(config_); }

std::uint32_t FreeNeighbours::counter(std::int64_t distance) const noexcept {
  const auto limit = static_cast<std::int64_t>(config_.group);
  if (distance <= -limit || distance >= limit) return 0;
  return counters_[static_cast<std::size_t>(distance + static_cast<std::int64_t>(max_group))];
}

void FreeNeighbours::reward(std::uint64_t page) noexcept {
  for (RecentPages<std::uint8_t>* pages : {&proposed_, &sampled_}) {
    const std::uint8_t* at = pages->find(page);
    if (at == nullptr) continue;
    const std::uint32_t most = (std::uint32_t{1} << config_.counter_bits) - 1;
    if (++counters_[*at] >= most) {
      for (std::uint32_t& counter : counters_) counter /= 2;
    }
    pages->erase(page);
  }
}

void FreeNeighbours::learn_and_propose(const Event& event, Candidates& out) noexcept {
  reward(event.page);
  const std::uint64_t first = event.page & ~std::uint64_t{config_.group - 1};
  for (std::uint64_t page = first; page < first + config_.group; ++page) {
    if (page == event.page) continue;
    const auto at = static_cast<std::uint8_t>(page + max_group - event.page);
    const bool worth_it = counters_[at] > config_.threshold;
    if (worth_it) out.push(page);
    if (proposed_.find(page) != nullptr || sampled_.find(page) != nullptr) continue;
    (worth_it ? proposed_ : sampled_).insert(page, at);
  }
}

void FreeNeighbours::forget() noexcept {
  counters_.fill(0);
  proposed_.clear();
  sampled_.clear();
}

}  // namespace vm::mem::prefetch
