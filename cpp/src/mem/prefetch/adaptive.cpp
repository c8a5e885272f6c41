#include "vm/mem/prefetch/adaptive.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "vm/core/error.hpp"

namespace vm::mem::prefetch {

namespace {

std::string text(double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%g", value);
  return digits;
}

void require_share(const char* what, double value) {
  if (value >= 0 && value <= 1) return;  // false for a NaN
  throw InvalidConfig(std::string("Adaptive: ") + what + " must be from 0 to 1, got " + text(value));
}

const AdaptiveConfig& checked(const AdaptiveConfig& config, std::size_t buckets) {
  require_between("Adaptive: window", config.window, 16, 65536);
  if (config.window % buckets != 0) {
    throw InvalidConfig("Adaptive: window must be a multiple of 8, got " + std::to_string(config.window));
  }
  require_share("accuracy", config.accuracy);
  require_share("coverage", config.coverage);
  require_share("hysteresis", config.hysteresis);
  require_share("walk_price", config.walk_price);
  require_between("Adaptive: filter", config.filter, 1, 65536);
  require_between("Adaptive: resident", config.resident, 1, 65536);
  return config;
}

}  // namespace

Adaptive::Adaptive(std::vector<std::unique_ptr<Prefetcher>> members, const AdaptiveConfig& config)
    : config_(checked(config, buckets)), resident_(config.resident) {
  require_between("Adaptive: number of members", members.size(), 1, 16);
  members_.reserve(members.size());
  for (auto& member : members) {
    if (member == nullptr) throw InvalidConfig("Adaptive: every member must be a prefetcher, got none for one");
    members_.push_back({std::move(member), RecentPages<Nothing>(config.filter), {}, {}});
  }
  decisions_.resize(kept_decisions);
  for (Decision& decision : decisions_) decision.scores.resize(members_.size());
}

Adaptive::~Adaptive() = default;

std::string Adaptive::describe() const {
  std::string all = "Adaptive([";
  for (const Member& member : members_) all += (all.back() == '[' ? "" : ", ") + member.prefetcher->describe();
  return all + "], window=" + std::to_string(config_.window) + ", accuracy=" + text(config_.accuracy) +
         ", coverage=" + text(config_.coverage) + ", hysteresis=" + text(config_.hysteresis) +
         ", walk_price=" + text(config_.walk_price) + ", filter=" + std::to_string(config_.filter) +
         ", resident=" + std::to_string(config_.resident) + ")";
}

std::unique_ptr<Prefetcher> Adaptive::fresh() const {
  std::vector<std::unique_ptr<Prefetcher>> members;
  members.reserve(members_.size());
  for (const Member& member : members_) members.push_back(member.prefetcher->fresh());
  return std::make_unique<Adaptive>(std::move(members), config_);
}

MemberScore Adaptive::score(std::size_t index) const { return score_of(members_.at(index)); }

std::vector<Decision> Adaptive::decisions() const {
  std::vector<Decision> kept;
  const std::uint64_t first = decision_count_ > kept_decisions ? decision_count_ - kept_decisions : 0;
  for (std::uint64_t i = first; i < decision_count_; ++i) kept.push_back(decisions_[i % kept_decisions]);
  return kept;
}

void Adaptive::learn_and_propose(const Event& event, Candidates& out) noexcept {
  Candidates proposals;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    Member& member = members_[i];
    settle(member, event.page);
    member.prefetcher->observe(event, proposals);
    remember(member, proposals);
    if (static_cast<int>(i) == followed_) {
      for (const std::uint64_t page : proposals) out.push(page);
    } else {
      count_filtered(proposals.size());
    }
  }
  if (resident_.find(event.page) == nullptr) resident_.insert(event.page, {});
  ++events_in_window_;
  if (++events_in_bucket_ == config_.window / buckets) {
    end_bucket();
  } else if (events_in_window_ == 8 || events_in_window_ == 16) {
    decide();  // at the start, when following anybody is better than waiting
  }
}

void Adaptive::settle(Member& member, std::uint64_t page) noexcept {
  if (!member.proposals.erase(page)) return;
  ++member.bucket[bucket_].covered;
  ++member.total.covered;
  member.prefetcher->outcome(page, Outcome::useful);
}

void Adaptive::remember(Member& member, const Candidates& proposals) noexcept {
  for (const std::uint64_t page : proposals) {
    // No walk would follow: the entry is there, or is being fetched.
    if (resident_.find(page) != nullptr || member.proposals.find(page) != nullptr) continue;
    ++member.bucket[bucket_].proposed;
    ++member.total.proposed;
    member.proposals.insert(page, {}, [&member](std::uint64_t unused, const Nothing&) {
      member.prefetcher->outcome(unused, Outcome::useless);
    });
  }
}

void Adaptive::learn_outcome(std::uint64_t page, Outcome outcome) noexcept {
  // The queues know everything else, and only a walk can know this.
  if (outcome != Outcome::refused) return;
  for (Member& member : members_) {
    if (member.proposals.erase(page)) member.prefetcher->outcome(page, Outcome::refused);
  }
}

void Adaptive::end_bucket() noexcept {
  decide();
  events_in_bucket_ = 0;
  bucket_ = (bucket_ + 1) % buckets;
  // The bucket that is begun was the oldest of the window.
  events_in_window_ = std::min<std::uint64_t>(events_in_window_, config_.window - config_.window / buckets);
  for (Member& member : members_) {
    Counts& oldest = member.bucket[bucket_];
    member.total.proposed -= oldest.proposed;
    member.total.covered -= oldest.covered;
    oldest = {};
  }
}

MemberScore Adaptive::score_of(const Member& member) const noexcept {
  MemberScore score;
  if (events_in_window_ == 0) return score;
  const auto events = static_cast<double>(events_in_window_);
  const auto proposed = static_cast<double>(member.total.proposed);
  const auto covered = static_cast<double>(member.total.covered);
  // An event may be covered by a proposal from before the window, so these can cross.
  if (proposed > 0) score.accuracy = std::min(1.0, covered / proposed);
  score.coverage = covered / events;
  score.score = score.coverage - config_.walk_price * std::max(0.0, proposed - covered) / events;
  return score;
}

bool Adaptive::above_thresholds(const MemberScore& score, double slack) const noexcept {
  return score.accuracy >= config_.accuracy * (1 - slack) && score.coverage >= config_.coverage * (1 - slack);
}

void Adaptive::decide() noexcept {
  int best = Decision::none;
  double best_score = 0;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const MemberScore score = score_of(members_[i]);
    if (!above_thresholds(score, 0)) continue;
    if (best != Decision::none && score.score <= best_score) continue;
    best = static_cast<int>(i);
    best_score = score.score;
  }
  if (best == followed_) return;
  if (followed_ != Decision::none) {
    const MemberScore current = score_of(members_[static_cast<std::size_t>(followed_)]);
    const bool good_enough = above_thresholds(current, config_.hysteresis);
    const bool beaten =
        best != Decision::none && best_score > current.score + config_.hysteresis * std::abs(current.score);
    if (good_enough && !beaten) return;
  }
  record(best);
  followed_ = best;
}

void Adaptive::record(int to) noexcept {
  Decision& decision = decisions_[decision_count_++ % kept_decisions];
  decision.event = stats().events;
  decision.from = followed_;
  decision.to = to;
  for (std::size_t i = 0; i < members_.size(); ++i) decision.scores[i] = score_of(members_[i]);
}

void Adaptive::forget() noexcept {
  for (Member& member : members_) {
    member.prefetcher->reset();
    member.proposals.clear();
    member.total = {};
    for (Counts& counts : member.bucket) counts = {};
  }
  resident_.clear();
  bucket_ = 0;
  events_in_bucket_ = events_in_window_ = 0;
  followed_ = Decision::none;
  decision_count_ = 0;
}

}  // namespace vm::mem::prefetch
