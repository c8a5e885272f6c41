#include "vm/mem/prefetch/perceptron.hpp"

#include <algorithm>
#include <bitset>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::mem::prefetch {

namespace {

/// No sum of weights is larger: 7 features of 8 bits.
constexpr std::int64_t largest_sum = 7 * 128;

const PerceptronConfig& checked(const PerceptronConfig& config) {
  require_between("Perceptron: rows", config.rows, 16, 65536);
  if ((config.rows & (config.rows - 1)) != 0) {
    throw InvalidConfig("Perceptron: rows must be a power of two, got " + std::to_string(config.rows));
  }
  require_between("Perceptron: weight_bits", config.weight_bits, 2, 8);
  if (config.threshold < -largest_sum || config.threshold > largest_sum) {
    throw InvalidConfig("Perceptron: threshold must be from -896 to 896, got " + std::to_string(config.threshold));
  }
  require_between("Perceptron: margin", config.margin, 0, static_cast<std::uint64_t>(largest_sum));
  require_between("Perceptron: passed", config.passed, 1, 65536);
  require_between("Perceptron: refused", config.refused, 1, 65536);
  return config;
}

std::unique_ptr<Prefetcher> required(std::unique_ptr<Prefetcher> inner) {
  if (inner == nullptr) throw InvalidConfig("Perceptron needs a prefetcher whose candidates it judges, got none");
  return inner;
}

/// The finalizer of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014): every bit of the input moves every bit of the row.
std::uint64_t mix(std::uint64_t x) noexcept {
  x = (x ^ x >> 30) * 0xBF58'476D'1CE4'E5B9U;
  x = (x ^ x >> 27) * 0x94D0'49BB'1331'11EBU;
  return x ^ x >> 31;
}

}  // namespace

Perceptron::Perceptron(std::unique_ptr<Prefetcher> inner, const PerceptronConfig& config)
    : config_(checked(config)),
      inner_(required(std::move(inner))),
      weights_(features * config.rows),
      passed_(config.passed),
      refused_(config.refused) {}

std::string Perceptron::describe() const {
  return "Perceptron(" + inner_->describe() + ", rows=" + std::to_string(config_.rows) +
         ", weight_bits=" + std::to_string(config_.weight_bits) + ", threshold=" + std::to_string(config_.threshold) +
         ", margin=" + std::to_string(config_.margin) + ", passed=" + std::to_string(config_.passed) +
         ", refused=" + std::to_string(config_.refused) + ")";
}

std::unique_ptr<Prefetcher> Perceptron::fresh() const { return std::make_unique<Perceptron>(inner_->fresh(), config_); }

Perceptron::Rows Perceptron::rows_of(const Event& event, std::uint64_t candidate, std::size_t rank) const noexcept {
  const std::uint64_t distance = candidate - event.page;
  const std::uint64_t good = std::bitset<16>(history_).count();
  const std::uint64_t values[features] = {distance,
                                          event.pc,
                                          mix(event.pc) ^ distance,
                                          candidate % 512,
                                          candidate / 512,
                                          mix(last_distance_) ^ distance,
                                          good * Candidates::capacity + rank};
  Rows rows;
  for (std::size_t i = 0; i < features; ++i) {
    rows[i] = static_cast<std::uint16_t>(mix(values[i] + 1) & (config_.rows - 1));
  }
  return rows;
}

int Perceptron::sum(const Rows& rows) const noexcept {
  int total = 0;
  for (std::size_t i = 0; i < features; ++i) total += weights_[i * config_.rows + rows[i]];
  return total;
}

void Perceptron::train(const Rows& rows, bool good) noexcept {
  const int total = sum(rows);
  const bool right = (total >= config_.threshold) == good;
  if (right && std::abs(total - config_.threshold) > static_cast<int>(config_.margin)) return;
  const int most = (1 << (config_.weight_bits - 1)) - 1;
  for (std::size_t i = 0; i < features; ++i) {
    std::int8_t& weight = weights_[i * config_.rows + rows[i]];
    weight = static_cast<std::int8_t>(std::clamp(weight + (good ? 1 : -1), -most - 1, most));
  }
}

void Perceptron::learn_and_propose(const Event& event, Candidates& out) noexcept {
  if (const Rows* rows = refused_.find(event.page)) {
    train(*rows, true);
    refused_.erase(event.page);
  }
  if (event.page != last_page_) last_distance_ = event.page - last_page_;
  last_page_ = event.page;

  Candidates all;
  inner_->observe(event, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::uint64_t page = all[i];
    const Rows rows = rows_of(event, page, i);
    const bool pass = sum(rows) >= config_.threshold;
    if (pass) out.push(page);
    RecentPages<Rows>& remembered = pass ? passed_ : refused_;
    if (remembered.find(page) == nullptr) remembered.insert(page, rows);
  }
  count_filtered(all.size() - out.size());
}

void Perceptron::learn_outcome(std::uint64_t page, Outcome outcome) noexcept {
  const bool good = outcome == Outcome::useful || outcome == Outcome::late;
  history_ = static_cast<std::uint16_t>(history_ << 1 | (good ? 1 : 0));
  if (const Rows* rows = passed_.find(page)) {
    train(*rows, good);
    passed_.erase(page);
  }
  inner_->outcome(page, outcome);
}

void Perceptron::learn_fault(std::uint64_t page) noexcept {
  if (const Rows* rows = refused_.find(page)) {
    train(*rows, false);
    refused_.erase(page);
  }
  inner_->faulted(page);
}

void Perceptron::forget() noexcept {
  inner_->reset();
  std::fill(weights_.begin(), weights_.end(), std::int8_t{0});
  passed_.clear();
  refused_.clear();
  last_page_ = last_distance_ = 0;
  history_ = 0xFFFF;
}

}  // namespace vm::mem::prefetch
