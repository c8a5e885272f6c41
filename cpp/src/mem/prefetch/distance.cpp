#include "vm/mem/prefetch/distance.hpp"

#include "mem/prefetch/table_config.hpp"

namespace vm::mem::prefetch {

namespace {

const DistanceConfig& checked(const DistanceConfig& config) {
  require_rows("Distance", config.rows, config.ways);
  require_between("Distance: slots", config.slots, 1, Successors::capacity);
  return config;
}

}  // namespace

Distance::Distance(const DistanceConfig& config)
    : config_(checked(config)), table_(config.rows, config.ways, Successors{}) {}

std::string Distance::describe() const {
  return "Distance(rows=" + std::to_string(config_.rows) + ", ways=" + std::to_string(config_.ways) +
         ", slots=" + std::to_string(config_.slots) + ")";
}

std::unique_ptr<Prefetcher> Distance::fresh() const { return std::make_unique<Distance>(config_); }

void Distance::learn_and_propose(const Event& event, Candidates& out) noexcept {
  const std::uint64_t distance = event.page - last_page_;
  const bool first = !started_;
  started_ = true;
  last_page_ = event.page;
  if (first || distance == 0) return;
  if (last_distance_ != 0) table_.find_or_make(last_distance_).record(distance, config_.slots);
  last_distance_ = distance;
  if (const Successors* row = table_.find(distance)) {
    for (std::size_t i = 0; i < row->count; ++i) out.push_at(static_cast<std::int64_t>(row->values[i]));
  }
}

void Distance::forget() noexcept {
  table_.clear();
  last_page_ = last_distance_ = 0;
  started_ = false;
}

}  // namespace vm::mem::prefetch
