#pragma once
/// \file
/// Whether a large batch of translations asks a TLB first or only walks.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace vm::mem {

/// Costs of both ways, learned from batch to batch. Any number of threads: the values are estimates, and losing an
/// update is harmless.
///
/// The batch walker keeps tables, not translations, and computes eight addresses at once; a TLB only pays where its
/// entries are denser in the processor's caches than the table entries that they stand for, which a skewed stream over
/// large tables makes them. Hence some addresses of each batch are looked up first. How many of them hit says what to
/// expect, and when the batch has gone through the TLB, what it took says whether that was right.
class BatchGuide {
 public:
  /// Below this, measuring costs more than choosing wrong.
  static constexpr std::size_t smallest_measured = 4096;
  /// One batch in so many goes around the TLB although it pays, so that what a walk takes is known of late.
  static constexpr std::uint32_t refresh_interval = 64;

  /// Elements of a batch to look up first: few enough to be lost in the noise.
  static std::size_t sample_size(std::size_t count) noexcept { return count / 256 < 1024 ? count / 256 : 1024; }
  /// Where they are: somewhere else each time, because batches often repeat.
  std::size_t sample_begin(std::size_t count) noexcept {
    // Relaxed: only a number. The fractions of multiples of the golden ratio are spread evenly (Knuth, vol. 3, 6.4).
    const std::uint64_t turn = turn_.fetch_add(1, std::memory_order_relaxed);
    const std::uint64_t fraction = turn * 0x9E37'79B9'7F4A'7C15 >> 32;
    return static_cast<std::size_t>(fraction * (count - sample_size(count)) >> 32);
  }

  /// `hits` of `sample` look-ups were answered.
  bool through_tlb(std::size_t hits, std::size_t sample) noexcept {
    const double walked = ns(walker_);
    if (walked == 0.0 || sample == 0) return false;
    if (turn_.load(std::memory_order_relaxed) % refresh_interval == 0) return false;
    const double missed = static_cast<double>(sample - hits) / static_cast<double>(sample);
    // What a look-up takes beside the walks of what it misses; before it was measured, something to try it with.
    constexpr double lookup_guess = 1.0, advantage = 0.95;
    const double measured = ns(lookup_);
    return (measured == 0.0 ? lookup_guess : measured) + missed * walked * miss_factor < advantage * walked;
  }

  /// A batch of `count` that went around.
  void record_walker(double nanoseconds, std::size_t count) noexcept {
    record(walker_, nanoseconds / static_cast<double>(count), 16);
    // What was measured a while ago is believed less.
    const std::uint64_t then = lookup_.load(std::memory_order_relaxed);
    lookup_.store(then - then / 16, std::memory_order_relaxed);
  }
  /// A batch of `count` that went through, `missed` of which were walked.
  void record_tlb(double nanoseconds, std::size_t count, std::size_t missed) noexcept {
    const double walks = static_cast<double>(missed) * ns(walker_) * miss_factor;
    const double rest = (nanoseconds - walks) / static_cast<double>(count);
    record(lookup_, std::max(rest, least_ns), 2);
  }

  /// Nanoseconds per element of the batch walker; 0 before the first measurement.
  double walker_ns() const noexcept { return ns(walker_); }

 private:
  using Picoseconds = std::atomic<std::uint64_t>;
  /// What is walked because it missed is collected and scattered, and is not what is found in caches.
  static constexpr double miss_factor = 1.25;
  static constexpr double least_ns = 0.1;

  static double ns(const Picoseconds& time) noexcept {
    return static_cast<double>(time.load(std::memory_order_relaxed)) / 1000.0;
  }
  /// What takes long may have been interrupted, what is short was not: down at once, up by one part in `slowness`.
  static void record(Picoseconds& time, double now_ns, std::uint64_t slowness) noexcept {
    const auto now = static_cast<std::uint64_t>(now_ns * 1000.0);
    const std::uint64_t before = time.load(std::memory_order_relaxed);
    time.store(before == 0 || now < before ? now : std::min(now, before + before / slowness + 1),
               std::memory_order_relaxed);
  }

  Picoseconds walker_{0};
  Picoseconds lookup_{0};
  std::atomic<std::uint64_t> turn_{0};
};

}  // namespace vm::mem
