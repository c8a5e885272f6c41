#pragma once
/// \file
/// What every TLB prefetcher does: it watches the look-ups that missed and names pages that may be next. It never reads
/// memory or page tables. Who asks it walks the real tables for each candidate, and fills only what they say.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "vm/core/export.hpp"

namespace vm::mem::prefetch {

/// Page numbers (vaddr >> page_shift) are at most this: 64-bit addresses of 4 KiB pages.
inline constexpr std::uint64_t max_page = (std::uint64_t{1} << 52) - 1;

/// A demand look-up that missed the TLB, or that was the first to hit an entry filled on a prefetcher's advice:
/// together the misses that there would be without prefetching.
struct Event {
  std::uint64_t page = 0;     ///< vaddr >> page_shift
  std::uint64_t pc = 0;       ///< address of the instruction, or 0 when it is not known
  bool prefetch_hit = false;  ///< the entry was there because it was prefetched
};

/// What became of a candidate.
enum class Outcome : std::uint8_t {
  useful,   ///< filled, and hit by a demand look-up
  useless,  ///< filled, and evicted or flushed before any
  late,     ///< the demand look-up came while the walk was under way
  refused,  ///< the page tables do not map it
};
const char* to_string(Outcome outcome) noexcept;

/// The pages proposed after one event: no page twice, and never the page of the event. Further ones are dropped when it
/// is full.
class Candidates {
 public:
  static constexpr std::size_t capacity = 16;

  /// Empties it; `demanded` is the page that is not to be proposed.
  void begin(std::uint64_t demanded) noexcept {
    demanded_ = demanded;
    size_ = 0;
  }
  /// Proposes `page`. False when nothing was added.
  bool push(std::uint64_t page) noexcept {
    if (size_ == capacity || page == demanded_ || page > max_page) return false;
    for (std::size_t i = 0; i < size_; ++i)
      if (pages_[i] == page) return false;
    pages_[size_++] = page;
    return true;
  }
  /// Proposes the page at `distance` pages from the demanded one, unless that leaves 0 to max_page.
  bool push_at(std::int64_t distance) noexcept {
    const std::uint64_t page = demanded_ + static_cast<std::uint64_t>(distance);
    const bool wrapped = distance < 0 ? page > demanded_ : page < demanded_;
    return !wrapped && push(page);
  }

  std::uint64_t demanded() const noexcept { return demanded_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  bool contains(std::uint64_t page) const noexcept {
    for (const std::uint64_t proposed : *this)
      if (proposed == page) return true;
    return false;
  }
  std::uint64_t operator[](std::size_t i) const noexcept { return pages_[i]; }
  const std::uint64_t* begin() const noexcept { return pages_.data(); }
  const std::uint64_t* end() const noexcept { return pages_.data() + size_; }

 private:
  std::array<std::uint64_t, capacity> pages_;
  std::size_t size_ = 0;
  std::uint64_t demanded_ = 0;
};

/// Events and candidates, counted where they pass.
struct Stats {
  std::uint64_t events = 0;
  std::uint64_t proposed = 0;  ///< candidates handed out
  std::uint64_t filtered = 0;  ///< candidates of inner prefetchers that were held back
  std::uint64_t useful = 0;    ///< as told by `outcome`
  std::uint64_t useless = 0;
  std::uint64_t late = 0;
  std::uint64_t refused = 0;

  /// Useful and late ones among those whose outcome is known; 0 before the first.
  double accuracy() const noexcept {
    const std::uint64_t known = useful + late + useless + refused;
    return known == 0 ? 0.0 : static_cast<double>(useful + late) / static_cast<double>(known);
  }
};

/// One thread at a time. The same configuration and the same calls give the same candidates. After construction nothing
/// allocates except `fresh` and `describe`.
class VM_API Prefetcher {
 public:
  virtual ~Prefetcher();

  /// Learns from `event`, then proposes. An event whose page is above max_page is counted and otherwise ignored.
  void observe(const Event& event, Candidates& out) noexcept;
  /// Says what became of a candidate. Once for each is expected, and none is required: prefetchers learn from events,
  /// and only filters from outcomes.
  void outcome(std::uint64_t page, Outcome outcome) noexcept;
  /// Says that a demand look-up of `page` ended in a page fault, because the tables did not map it: a prefetch would
  /// have been refused until now. The look-up is no event; the one that is made again once the page is there is.
  void faulted(std::uint64_t page) noexcept;

  /// Forgets everything learned and counted: as new.
  void reset() noexcept;
  const Stats& stats() const noexcept { return stats_; }

  virtual const char* name() const noexcept = 0;
  /// Name and parameters, as Python would construct it: "Sequential(degree=4)".
  virtual std::string describe() const = 0;
  /// Another one with the same configuration that has learned nothing.
  virtual std::unique_ptr<Prefetcher> fresh() const = 0;

 protected:
  Prefetcher() = default;
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  virtual void learn_and_propose(const Event& event, Candidates& out) noexcept = 0;
  virtual void learn_outcome(std::uint64_t page, Outcome outcome) noexcept;
  virtual void learn_fault(std::uint64_t page) noexcept;
  virtual void forget() noexcept = 0;
  void count_filtered(std::uint64_t candidates) noexcept { stats_.filtered += candidates; }

 private:
  Stats stats_;
};

/// Throws InvalidConfig unless least <= value <= most; `what` names the parameter: "Sequential: degree".
void require_between(const char* what, std::uint64_t value, std::uint64_t least, std::uint64_t most);

}  // namespace vm::mem::prefetch
