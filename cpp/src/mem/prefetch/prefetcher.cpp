#include "vm/mem/prefetch/prefetcher.hpp"

#include "vm/core/error.hpp"

namespace vm::mem::prefetch {

const char* to_string(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::useful: return "useful";
    case Outcome::useless: return "useless";
    case Outcome::late: return "late";
    case Outcome::refused: return "refused";
  }
  return "unknown";
}

Prefetcher::~Prefetcher() = default;

void Prefetcher::observe(const Event& event, Candidates& out) noexcept {
  out.begin(event.page);
  ++stats_.events;
  if (event.page > max_page) return;
  learn_and_propose(event, out);
  stats_.proposed += out.size();
}

void Prefetcher::outcome(std::uint64_t page, Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::useful: ++stats_.useful; break;
    case Outcome::useless: ++stats_.useless; break;
    case Outcome::late: ++stats_.late; break;
    case Outcome::refused: ++stats_.refused; break;
  }
  learn_outcome(page, outcome);
}

void Prefetcher::faulted(std::uint64_t page) noexcept {
  if (page <= max_page) learn_fault(page);
}

void Prefetcher::reset() noexcept {
  stats_ = {};
  forget();
}

void Prefetcher::learn_outcome(std::uint64_t, Outcome) noexcept {}

void Prefetcher::learn_fault(std::uint64_t) noexcept {}

void require_between(const char* what, std::uint64_t value, std::uint64_t least, std::uint64_t most) {
  if (value >= least && value <= most) return;
  throw InvalidConfig(std::string(what) + " must be from " + std::to_string(least) + " to " + std::to_string(most) +
                      ", got " + std::to_string(value));
}

}  // namespace vm::mem::prefetch
