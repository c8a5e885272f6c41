#pragma once
/// \file
/// Constant strides, per instruction or per stream.

#include <cstdint>
#include <vector>

#include "vm/mem/prefetch/lru_table.hpp"
#include "vm/mem/prefetch/prefetcher.hpp"

namespace vm::mem::prefetch {

struct StridedConfig {
  std::uint32_t rows = 256;    ///< instructions remembered; 1 to 2^20, a multiple of `ways`
  std::uint32_t ways = 4;      ///< rows of a set; 1 to 16
  std::uint32_t streams = 16;  ///< streams followed when the instruction is not known; 1 to 64
  std::uint32_t window = 256;  ///< an event this many pages or fewer from a stream's last one belongs to it; 1 to 2^20
  std::uint32_t degree = 1;    ///< strides ahead; 1 to 16
};

/// The end of a run of references and its stride: a row of the reference prediction table (Chen & Baer, Effective
/// Hardware-Based Data Prefetching for High-Performance Processors, IEEE Transactions on Computers 1995, figure 3).
struct StrideState {
  enum class Phase : std::uint8_t { initial, transient, steady, no_prediction };

  std::uint64_t last = 0;
  std::uint64_t stride = 0;  ///< modulo 2^64
  Phase phase = Phase::initial;
  bool started = false;

  /// Takes the next reference of the run; one to the same page again says nothing.
  void advance(std::uint64_t page) noexcept;
};

/// Arbitrary stride prefetching (ASP), as for TLBs in Kandiraju & Sivasubramaniam, ISCA 2002, section 2.2: a table
/// indexed by the instruction proposes page + stride once two consecutive strides were equal. Events without an
/// instruction go to a few streams instead: to the one that expected this page, else to the nearest within the window,
/// else to a new one in the place of the least recently used.
class VM_API Strided final : public Prefetcher {
 public:
  /// Throws InvalidConfig.
  explicit Strided(const StridedConfig& config = {});

  const StridedConfig& config() const noexcept { return config_; }
  const char* name() const noexcept override { return "strided"; }
  std::string describe() const override;
  std::unique_ptr<Prefetcher> fresh() const override;

 private:
  struct Stream {
    StrideState state;
    std::uint64_t used = 0;
  };

  void learn_and_propose(const Event& event, Candidates& out) noexcept override;
  void forget() noexcept override;
  Stream& stream_of(std::uint64_t page) noexcept;

  StridedConfig config_;
  LruTable<StrideState> table_;
  std::vector<Stream> streams_;
  StrideState all_;  // every event without an instruction: finds strides wider than the window
  std::uint64_t clock_ = 0;
};

}  // namespace vm::mem::prefetch
