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

/// Proposals that a member must have got right before it is followed: one may be chance.
constexpr double least_evidence = 1;

const AdaptiveConfig& checked(const AdaptiveConfig& config) {
  require_between("Adaptive: window", config.window, 16, 65536);
  require_share("accuracy", config.accuracy);
  require_share("coverage", config.coverage);
  require_share("hysteresis", config.hysteresis);
  require_share("walk_price", config.walk_price);
  require_share("fill_price", config.fill_price);
  require_between("Adaptive: filter", config.filter, 1, 65536);
  require_between("Adaptive: resident", config.resident, 1, 65536);
  return config;
}

}  // namespace

Adaptive::Adaptive(std::vector<std::unique_ptr<Prefetcher>> members, const AdaptiveConfig& config)
    : config_(checked(config)),
      resident_(config.resident),
      keep_(1 - 1 / static_cast<double>(config.window)),
      asked_(sampled, no_page) {
  require_between("Adaptive: number of members", members.size(), 1, 16);
  members_.reserve(members.size());
  for (auto& member : members) {
    if (member == nullptr) throw InvalidConfig("Adaptive: every member must be a prefetcher, got none for one");
    members_.push_back({std::move(member), RecentPages<Nothing>(config.filter), {}});
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
         ", walk_price=" + text(config_.walk_price) + ", fill_price=" + text(config_.fill_price) +
         ", filter=" + std::to_string(config_.filter) + ", resident=" + std::to_string(config_.resident) + ")";
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
  age(event);
  Candidates proposals;
  for (Member& member : members_) settle(member, event.page);
  decide();
  for (std::size_t i = 0; i < members_.size(); ++i) {
    Member& member = members_[i];
    member.prefetcher->observe(event, proposals);
    remember(member, proposals);
    if (static_cast<int>(i) == followed_) {
      for (const std::uint64_t page : proposals) out.push(page);
    } else {
      count_filtered(proposals.size());
    }
  }
  if (resident_.find(event.page) == nullptr) resident_.insert(event.page, {});
}

void Adaptive::age(const Event& event) noexcept {
  for (Member& member : members_) {
    member.sums.proposed *= keep_;
    member.sums.covered *= keep_;
    member.sums.refused *= keep_;
  }
  events_ = events_ * keep_ + 1;
  avoidable_ = avoidable_ * keep_ + (event.page == last_fault_ ? 0 : 1);
  last_fault_ = no_page;
  const std::uint64_t hash = event.page * 0x9E37'79B9'7F4A'7C15U >> 32;  // as in RecentPages
  if (hash % 4 != 0) return;
  std::uint64_t& asked = asked_[hash / 4 % sampled];
  samples_ = samples_ * keep_ + 1;
  again_ = again_ * keep_ + (asked == event.page ? 1 : 0);
  asked = event.page;
}

void Adaptive::settle(Member& member, std::uint64_t page) noexcept {
  if (!member.proposals.erase(page)) return;
  ++member.sums.covered;
  member.prefetcher->outcome(page, Outcome::useful);
}

void Adaptive::refuse(std::uint64_t page) noexcept {
  for (Member& member : members_) {
    if (!member.proposals.erase(page)) continue;
    ++member.sums.refused;
    member.prefetcher->outcome(page, Outcome::refused);
  }
}

void Adaptive::remember(Member& member, const Candidates& proposals) noexcept {
  for (const std::uint64_t page : proposals) {
    // No walk would follow: the entry is there, or is being fetched.
    if (resident_.find(page) != nullptr || member.proposals.find(page) != nullptr) continue;
    ++member.sums.proposed;
    member.proposals.insert(page, {}, [&member](std::uint64_t unused, const Nothing&) {
      member.prefetcher->outcome(unused, Outcome::useless);
    });
  }
}

void Adaptive::learn_outcome(std::uint64_t page, Outcome outcome) noexcept {
  // The queues know everything else, and only a walk can know this.
  if (outcome == Outcome::refused) refuse(page);
}

void Adaptive::learn_fault(std::uint64_t page) noexcept {
  refuse(page);
  for (Member& member : members_) member.prefetcher->faulted(page);
  last_fault_ = page;
}

MemberScore Adaptive::score_of(const Member& member) const noexcept {
  MemberScore score;
  if (events_ < 1) return score;
  const Sums& sums = member.sums;
  // What is asked for or refused was proposed before, when the sums were others, so these can cross.
  const double vain = std::max(0.0, sums.proposed - sums.covered);
  const double filled = std::max(0.0, vain - sums.refused);
  const double pressure = samples_ > 0 ? again_ / samples_ : 0.0;
  if (sums.covered > 0) score.accuracy = sums.covered / (sums.covered + filled);
  if (avoidable_ > 0) score.coverage = std::min(1.0, sums.covered / avoidable_);
  score.score = (sums.covered - config_.walk_price * vain - config_.fill_price * pressure * filled) / events_;
  return score;
}

bool Adaptive::above_thresholds(const MemberScore& score, double slack) const noexcept {
  return score.score > 0 && score.accuracy >= config_.accuracy * (1 - slack) &&
         score.coverage >= config_.coverage * (1 - slack);
}

void Adaptive::decide() noexcept {
  int best = Decision::none;
  double best_score = 0;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const MemberScore score = score_of(members_[i]);
    if (!above_thresholds(score, 0) || members_[i].sums.covered < least_evidence) continue;
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
    member.sums = {};
  }
  resident_.clear();
  events_ = avoidable_ = samples_ = again_ = 0;
  last_fault_ = no_page;
  std::fill(asked_.begin(), asked_.end(), no_page);
  followed_ = Decision::none;
  decision_count_ = 0;
}

}  // namespace vm::mem::prefetch
