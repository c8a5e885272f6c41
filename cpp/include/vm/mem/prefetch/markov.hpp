#pragma once
/// \file
/// Pages that follow pages.

#include <cstdint>

#include "vm/mem/prefetch/lru_table.hpp"
#include "vm/mem/prefetch/prefetcher.hpp"

namespace vm::mem::prefetch {

struct MarkovConfig {
  std::uint32_t rows = 1024;  ///< pages remembered; 1 to 2^20, a multiple of `ways`
  std::uint32_t ways = 4;     ///< rows of a set; 1 to 16
  std::uint32_t slots = 2;    ///< successors remembered per page; 1 to 8
};

/// Markov prefetching (MP): proposes the pages that followed this one before (Joseph & Grunwald, Prefetching using
/// Markov Predictors, ISCA 1997; for TLBs: Kandiraju & Sivasubramaniam, ISCA 2002, section 2.3).
class VM_API Markov final : public Prefetcher {
 public:
  /// Throws InvalidConfig.
  explicit Markov(const MarkovConfig& config = {});

  const MarkovConfig& config() const noexcept { return config_; }
  const char* name() const noexcept override { return "markov"; }
  std::string describe() const override;
  std::unique_ptr<Prefetcher> fresh() const override;

 private:
  void learn_and_propose(const Event& event, Candidates& out) noexcept override;
  void forget() noexcept override;

  MarkovConfig config_;
  LruTable<Successors> table_;
  std::uint64_t last_page_ = 0;
  bool started_ = false;
};

}  // namespace vm::mem::prefetch
