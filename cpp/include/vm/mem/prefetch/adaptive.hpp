#pragma once
/// \file
/// The best prefetcher of several, or none.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vm/mem/prefetch/prefetcher.hpp"
#include "vm/mem/prefetch/recent_pages.hpp"

namespace vm::mem::prefetch {

struct AdaptiveConfig {
  std::uint32_t window = 32;  ///< what was seen so many events ago counts a third (1 / e) in the scores; 16 to 65536
  double accuracy = 0.1;      ///< a member is followed only with at least this share of its proposals useful; 0 to 1
  double coverage = 0.02;     ///< and at least this share of the events proposed before; 0 to 1
  double hysteresis = 0.05;   ///< another's score must be better by this part, and the followed member may be below the
                              ///< thresholds by it; 0 to 1
  double walk_price = 0.02;   ///< what a walk for nothing takes off the score, as a part of a miss; 0 to 1
  double fill_price = 0.5;    ///< what an entry filled for nothing takes off the score, as a part of a miss, when
                              ///< every event asks for a page that was asked for before; 0 to 1
  std::uint32_t filter = 512;    ///< proposals of each member that are remembered; 1 to 65536
  std::uint32_t resident = 512;  ///< pages of the last events, taken to be in the TLB; 1 to 65536
};

/// How a member did lately.
struct MemberScore {
  double accuracy =
      0;  ///< proposals of pages that events then asked for, among those of pages not known to be unmapped
  double coverage = 0;  ///< events whose page it had proposed, among those that could have been avoided
  double score = 0;     ///< misses avoided per event, less the prices of its walks and fills for nothing
};

/// A change of the member that is followed, with the numbers that caused it.
struct Decision {
  static constexpr int none = -1;

  std::uint64_t event = 0;  ///< after so many events
  int from = none;          ///< indices of members
  int to = none;
  std::vector<MemberScore> scores;
};

/// Runs its members side by side on the same events and hands out the proposals of one of them. Each member's recent
/// proposals are remembered in a queue and compared with the events that follow, so that members are judged whether
/// they are followed or not, and learn outcomes that way (the fake prefetch queues of Vavouliotis et al., ISCA 2021,
/// section 5, with decaying sums in the place of their counters). A proposal counts for nothing until it is asked for,
/// and as refused when the demand for it faults (`faulted`), so that nobody is credited with a page that no walk could
/// have found. After each event it follows the best score among those above both thresholds, or nobody.
///
/// What an entry filled for nothing costs depends on what it pushes out: nothing in a TLB that has room. The estimate
/// is the share of events on pages that had been asked for before, as a sample of one page in four tells.
class VM_API Adaptive final : public Prefetcher {
 public:
  /// One to 16 members; of equal ones the first is preferred. Throws InvalidConfig.
  explicit Adaptive(std::vector<std::unique_ptr<Prefetcher>> members, const AdaptiveConfig& config = {});
  ~Adaptive() override;

  const AdaptiveConfig& config() const noexcept { return config_; }
  std::size_t size() const noexcept { return members_.size(); }
  /// Its `stats` say what it proposed in the shadow and what its queue says became of that.
  const Prefetcher& member(std::size_t index) const { return *members_.at(index).prefetcher; }
  MemberScore score(std::size_t index) const;
  /// Index of the member that is followed, or Decision::none.
  int followed() const noexcept { return followed_; }
  /// The last 256 changes, oldest first.
  std::vector<Decision> decisions() const;
  /// All of them, the forgotten ones included.
  std::uint64_t decision_count() const noexcept { return decision_count_; }

  const char* name() const noexcept override { return "adaptive"; }
  std::string describe() const override;
  std::unique_ptr<Prefetcher> fresh() const override;

 private:
  static constexpr std::size_t kept_decisions = 256;
  static constexpr std::size_t sampled = 1024;  // pages of the sample of those asked for before
  static constexpr std::uint64_t no_page = UINT64_MAX;
  struct Nothing {};
  /// Decaying sums.
  struct Sums {
    double proposed = 0;
    double covered = 0;
    double refused = 0;
  };
  struct Member {
    std::unique_ptr<Prefetcher> prefetcher;
    RecentPages<Nothing> proposals;
    Sums sums;
  };

  void learn_and_propose(const Event& event, Candidates& out) noexcept override;
  void learn_outcome(std::uint64_t page, Outcome outcome) noexcept override;
  void learn_fault(std::uint64_t page) noexcept override;
  void forget() noexcept override;
  void age(const Event& event) noexcept;
  void settle(Member& member, std::uint64_t page) noexcept;
  void refuse(std::uint64_t page) noexcept;
  void remember(Member& member, const Candidates& proposals) noexcept;
  MemberScore score_of(const Member& member) const noexcept;
  bool above_thresholds(const MemberScore& score, double slack) const noexcept;
  void decide() noexcept;
  void record(int to) noexcept;

  AdaptiveConfig config_;
  std::vector<Member> members_;
  RecentPages<Nothing> resident_;
  double keep_ = 1;       // part of the sums that an event leaves
  double events_ = 0;     // decaying sum of all
  double avoidable_ = 0;  // of those whose page was not mapped by the guest just now
  double samples_ = 0;    // of those on sampled pages
  double again_ = 0;      // of those on sampled pages that had been asked for before
  std::uint64_t last_fault_ = no_page;
  std::vector<std::uint64_t> asked_;  // sampled pages by their hash, the last one of each
  int followed_ = Decision::none;
  std::vector<Decision> decisions_;  // a ring
  std::uint64_t decision_count_ = 0;
};

/// One of each kind for `Adaptive`: sequential (`degree` pages), strided (`degree`), distance, Markov, free neighbours.
std::vector<std::unique_ptr<Prefetcher>> default_members(std::uint32_t degree = 4);

}  // namespace vm::mem::prefetch
