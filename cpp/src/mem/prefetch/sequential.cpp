#include "vm/mem/prefetch/sequential.hpp"

namespace vm::mem::prefetch {

Sequential::Sequential(const SequentialConfig& config) : config_(config) {
  require_between("Sequential: degree", config.degree, 1, Candidates::capacity);
}

std::string Sequential::describe() const { return "Sequential(degree=" + std::to_string(config_.degree) + ")"; }

std::unique_ptr<Prefetcher> Sequential::fresh() const { return std::make_unique<Sequential>(config_); }

void Sequential::learn_and_propose(const Event&, Candidates& out) noexcept {
  for (std::uint32_t i = 1; i <= config_.degree; ++i) out.push_at(i);
}

}  // namespace vm::mem::prefetch
