#pragma once
/// \file
/// The shapes of TLBs.

#include <cstdint>
#include <vector>

namespace vm::mem::tlb {

enum class Replacement : std::uint8_t {
  lru,        ///< true least-recently-used
  tree_plru,  ///< a binary tree of bits, for any number of ways
  fifo,
  random,  ///< a xorshift generator with a seed, so that runs repeat
};

enum class Inclusion : std::uint8_t {
  inclusive,  ///< a page in one level is in all later ones too; what leaves a later level leaves the earlier ones
  exclusive,  ///< a page is in one level only; what leaves a level moves to the next
};

/// Sets x ways of entries for some page sizes. No number has to be a power of two.
struct ArrayConfig {
  std::uint32_t sets = 64;
  std::uint32_t ways = 4;
  Replacement replacement = Replacement::lru;
  /// log2 of the page sizes that it takes; empty: every size that no other array of the level names.
  std::vector<std::uint8_t> page_sizes;

  std::uint64_t entries() const noexcept { return std::uint64_t{sets} * ways; }
};

/// One level: a single array for all sizes (unified), or several (split by size).
struct LevelConfig {
  std::vector<ArrayConfig> arrays;
};

enum class Strategy : std::uint8_t {
  multi_level,  ///< L1, L2, L3 for one thread at a time
  concurrent,   ///< one ShardedTlb for all threads
  hybrid,       ///< a private first level per thread over a shared ShardedTlb
};
const char* to_string(Strategy strategy) noexcept;
const char* to_string(Replacement replacement) noexcept;
const char* to_string(Inclusion inclusion) noexcept;

/// When a flush takes effect.
enum class FlushPolicy : std::uint8_t {
  immediate,    ///< before `flush` returns
  delayed,      ///< at `barrier()`, or at the first flush or fill after `flush_delay_ns`
  batched,      ///< at `barrier()`, or when `flush_batch` requests wait
  intelligent,  ///< immediate; page by page or the whole context, whichever is estimated to cost less
  adaptive,     ///< intelligent, with the costs measured while it runs
};
const char* to_string(FlushPolicy policy) noexcept;

/// The whole of a `UnifiedTlb`. Sizes are entries.
struct TlbConfig {
  Strategy strategy = Strategy::multi_level;
  std::uint32_t l1_size = 64;
  std::uint32_t l2_size = 512;   ///< 0: no such level
  std::uint32_t l3_size = 4096;  ///< 0: no such level; the shared level of `concurrent` and `hybrid`
  std::uint32_t l1_ways = 4;
  std::uint32_t l2_ways = 8;
  std::uint32_t l3_ways = 4;
  /// `multi_level` only: look-ups of the others leave no trace in what threads share, so those replace in turn, and
  /// take no other value than the default.
  Replacement replacement = Replacement::lru;
  Inclusion inclusion = Inclusion::inclusive;
  /// Geometry in detail, instead of the sizes and ways above; `multi_level` only.
  std::vector<LevelConfig> levels;

  FlushPolicy flush_policy = FlushPolicy::immediate;
  std::uint32_t flush_batch = 32;
  std::uint64_t flush_delay_ns = 1'000'000;

  bool enable_prefetch = false;
  bool enable_prediction = false;  ///< a perceptron decides which candidates are worth a walk
  std::uint32_t prefetch_distance = 4;
  std::uint64_t seed = 1;  ///< of random replacement
};

/// log2 of the page sizes that a TLB takes.
inline constexpr unsigned smallest_page_log2 = 12;
inline constexpr unsigned largest_page_log2 = 57;
/// Ways of a set of `concurrent` and `hybrid`; each has a bit of one word while a set is searched.
inline constexpr std::uint32_t most_concurrent_ways = 32;
/// Ways of one array; 32 bytes each.
inline constexpr std::uint64_t largest_array = std::uint64_t{1} << 24;

/// Throws InvalidConfig saying which number is out of its range.
void validate(const TlbConfig& config);

/// The levels that a valid `config` describes: its `levels`, or one array a level from its sizes and ways.
std::vector<LevelConfig> levels_of(const TlbConfig& config);

}  // namespace vm::mem::tlb
