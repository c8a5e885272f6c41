#pragma once
/// \file
/// Whether a batch of translations goes through the TLB or around it.

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace vm::mem {

/// Costs of both ways, learned from call to call. Any number of threads: the values are estimates, and losing an update
/// is harmless.
///
/// The batch walker keeps tables, not translations, and computes eight addresses at once; a TLB only pays where its
/// entries are denser in the processor's caches than the table entries that they stand for, which a skewed stream over
/// large tables makes them. Hence a sample of each batch is looked up first, and the batch goes through the TLB when
/// the time that this took says that it is worth it.
class BatchGuide {
 public:
  /// Below this, measuring costs more than choosing wrong.
  static constexpr std::size_t smallest_measured = 4096;

  /// Elements of the batch to look up first: few enough to be lost in the noise when it then goes around the TLB.
  static std::size_t sample_size(std::size_t count) noexcept { return count / 256 < 2048 ? count / 256 : 2048; }

  /// `lookup_ns` is what the sample took per element, of which `hits` were answered.
  bool through_tlb(double lookup_ns, std::size_t hits, std::size_t sample) const noexcept {
    const double walked = walker_ns();
    if (walked == 0.0 || sample == 0) return false;
    const double missed = static_cast<double>(sample - hits) / static_cast<double>(sample);
    // What misses is collected and scattered, and by the walker it is done in smaller batches.
    constexpr double overhead = 1.5, advantage = 0.9;
    return lookup_ns + missed * walked * overhead < advantage * walked;
  }

  /// Every how many elements that go around the TLB one is walked alone, so that the TLB learns of it: as often as
  /// costs a hundredth or two of the batch.
  std::size_t fill_interval() const noexcept {
    constexpr double fill_ns = 150, share = 0.02;
    constexpr std::size_t before_measurement = 4096;
    const double walked = walker_ns();
    return walked == 0.0 ? before_measurement : static_cast<std::size_t>(fill_ns / (share * walked)) + 1;
  }
  /// The same for elements that missed a TLB that pays: it is to become better soon.
  static constexpr std::size_t miss_interval = 64;

  /// Nanoseconds per element of the batch walker; 0 before the first measurement.
  double walker_ns() const noexcept { return static_cast<double>(walker_ps_.load(std::memory_order_relaxed)) / 1000.0; }
  void record_walker(double nanoseconds, std::size_t count) noexcept {
    const auto now = static_cast<std::uint64_t>(nanoseconds * 1000.0 / static_cast<double>(count));
    const std::uint64_t before = walker_ps_.load(std::memory_order_relaxed);
    walker_ps_.store(before == 0 ? now : (3 * before + now) / 4, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> walker_ps_{0};
};

}  // namespace vm::mem
