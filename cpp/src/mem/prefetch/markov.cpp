#include "vm/mem/prefetch/markov.hpp"

#include "mem/prefetch/table_config.hpp"

namespace vm::mem::prefetch {

namespace {

const MarkovConfig& checked(const MarkovConfig& config) {
  require_rows("Markov", config.rows, config.ways);
  require_between("Markov: slots", config.slots, 1, Successors::capacity);
  return config;
}

}  // namespace

Markov::Markov(const MarkovConfig& config) : config_(checked(config)), table_(config.rows, config.ways, Successors{}) {}

std::string Markov::describe() const {
  return "Markov(rows=" + std::to_string(config_.rows) + ", ways=" + std::to_string(config_.ways) +
         ", slots=" + std::to_string(config_.slots) + ")";
}

std::unique_ptr<Prefetcher> Markov::fresh() const { return std::make_unique<Markov>(config_); }

void Markov::learn_and_propose(const Event& event, Candidates& out) noexcept {
  if (started_ && last_page_ != event.page) table_.find_or_make(last_page_).record(event.page, config_.slots);
  started_ = true;
  last_page_ = event.page;
  if (const Successors* row = table_.find(event.page)) {
    for (std::size_t i = 0; i < row->count; ++i) out.push(row->values[i]);
  }
}

void Markov::forget() noexcept {
  table_.clear();
  started_ = false;
}

}  // namespace vm::mem::prefetch
