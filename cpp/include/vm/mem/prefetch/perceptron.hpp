#pragma once
/// \file
/// A learned judgement on candidates.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "vm/mem/prefetch/prefetcher.hpp"
#include "vm/mem/prefetch/recent_pages.hpp"

namespace vm::mem::prefetch {

struct PerceptronConfig {
  std::uint32_t rows = 1024;      ///< weights per feature; a power of two from 16 to 65536
  std::uint32_t weight_bits = 6;  ///< signed, saturating; 2 to 8
  std::int32_t threshold = -4;    ///< a candidate passes when its weights add up to this or more; -896 to 896
  std::uint32_t margin = 24;      ///< right answers are still reinforced while the sum is within; 0 to 896
  std::uint32_t passed = 1024;    ///< candidates remembered until their outcome is known; 1 to 65536
  std::uint32_t refused = 1024;   ///< candidates remembered that did not pass; 1 to 65536
};

/// Decides which candidates of another prefetcher are worth a walk: an online perceptron over hashed features, a sum of
/// one saturating weight per feature, trained by outcomes and by events on pages that it had refused (Bhatia et al.,
/// Perceptron-Based Prefetch Filtering, ISCA 2019; Jimenez & Lin, HPCA 2001, for the rule of training). The features
/// are: the distance, the instruction, both, the page within its leaf table, the leaf table, the two last distances,
/// and the share of good outcomes lately with the candidate's rank.
class VM_API Perceptron final : public Prefetcher {
 public:
  static constexpr std::size_t features = 7;

  /// Takes the prefetcher whose candidates it judges. Throws InvalidConfig, also when that is nullptr.
  explicit Perceptron(std::unique_ptr<Prefetcher> inner, const PerceptronConfig& config = {});

  const PerceptronConfig& config() const noexcept { return config_; }
  const Prefetcher& inner() const noexcept { return *inner_; }
  const char* name() const noexcept override { return "perceptron"; }
  std::string describe() const override;
  std::unique_ptr<Prefetcher> fresh() const override;

 private:
  using Rows = std::array<std::uint16_t, features>;  // a candidate's row of each feature's weights

  void learn_and_propose(const Event& event, Candidates& out) noexcept override;
  void learn_outcome(std::uint64_t page, Outcome outcome) noexcept override;
  void learn_fault(std::uint64_t page) noexcept override;
  void forget() noexcept override;
  Rows rows_of(const Event& event, std::uint64_t candidate, std::size_t rank) const noexcept;
  int sum(const Rows& rows) const noexcept;
  void train(const Rows& rows, bool good) noexcept;

  PerceptronConfig config_;
  std::unique_ptr<Prefetcher> inner_;
  std::vector<std::int8_t> weights_;  // feature by feature
  RecentPages<Rows> passed_;
  RecentPages<Rows> refused_;
  std::uint64_t last_page_ = 0;
  std::uint64_t last_distance_ = 0;
  std::uint16_t history_ = 0xFFFF;  // the last 16 outcomes, 1 for a good one
};

}  // namespace vm::mem::prefetch
