#pragma once
/// \file
/// The next pages.

#include <cstdint>

#include "vm/mem/prefetch/prefetcher.hpp"

namespace vm::mem::prefetch {

struct SequentialConfig {
  std::uint32_t degree = 1;  ///< pages after the demanded one; 1 to 16
};

/// Tagged sequential prefetching (SP): proposes the `degree` pages after every event, hits on prefetched entries
/// included (A. J. Smith, Cache Memories, ACM Computing Surveys 1982).
class VM_API Sequential final : public Prefetcher {
 public:
  /// Throws InvalidConfig.
  explicit Sequential(const SequentialConfig& config = {});

  const SequentialConfig& config() const noexcept { return config_; }
  const char* name() const noexcept override { return "sequential"; }
  std::string describe() const override;
  std::unique_ptr<Prefetcher> fresh() const override;

 private:
  void learn_and_propose(const Event& event, Candidates& out) noexcept override;
  void forget() noexcept override {}

  SequentialConfig config_;
};

}  // namespace vm::mem::prefetch
