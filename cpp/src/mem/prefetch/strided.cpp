#include "vm/mem/prefetch/strided.hpp"

#include <algorithm>

#include "mem/prefetch/table_config.hpp"

namespace vm::mem::prefetch {

namespace {

const StridedConfig& checked(const StridedConfig& config) {
  require_rows("Strided", config.rows, config.ways);
  require_between("Strided: streams", config.streams, 1, 64);
  require_between("Strided: window", config.window, 1, max_rows);
  require_between("Strided: degree", config.degree, 1, Candidates::capacity);
  return config;
}

}  // namespace

void StrideState::advance(std::uint64_t page) noexcept {
  if (!started) {
    last = page;
    started = true;
    return;
  }
  const std::uint64_t distance = page - last;
  if (distance == 0) return;
  last = page;
  const bool correct = distance == stride;
  switch (phase) {
    case Phase::initial:
    case Phase::transient:
      if (correct) {
        phase = Phase::steady;
      } else {
        phase = phase == Phase::initial ? Phase::transient : Phase::no_prediction;
        stride = distance;
      }
      break;
    case Phase::steady:
      if (!correct) phase = Phase::initial;  // the stride has another chance
      break;
    case Phase::no_prediction:
      if (correct) {
        phase = Phase::transient;
      } else {
        stride = distance;
      }
      break;
  }
}

Strided::Strided(const StridedConfig& config)
    : config_(checked(config)), table_(config.rows, config.ways, StrideState{}), streams_(config.streams) {}

std::string Strided::describe() const {
  return "Strided(rows=" + std::to_string(config_.rows) + ", ways=" + std::to_string(config_.ways) +
         ", streams=" + std::to_string(config_.streams) + ", window=" + std::to_string(config_.window) +
         ", degree=" + std::to_string(config_.degree) + ")";
}

std::unique_ptr<Prefetcher> Strided::fresh() const { return std::make_unique<Strided>(config_); }

Strided::Stream& Strided::stream_of(std::uint64_t page) noexcept {
  Stream* nearest = nullptr;
  Stream* oldest = &streams_.front();
  std::uint64_t least = std::uint64_t{config_.window} + 1;
  for (Stream& stream : streams_) {
    if (stream.used < oldest->used) oldest = &stream;
    if (!stream.state.started) continue;
    if (stream.state.stride != 0 && stream.state.last + stream.state.stride == page) return stream;
    const std::uint64_t away = std::min(page - stream.state.last, stream.state.last - page);
    if (away < least) {
      least = away;
      nearest = &stream;
    }
  }
  if (nearest != nullptr) return *nearest;
  // When all events together are one run, the new stream is its continuation: only so are wide strides ever learned.
  oldest->state = all_.phase == StrideState::Phase::steady ? all_ : StrideState{};
  return *oldest;
}

void Strided::learn_and_propose(const Event& event, Candidates& out) noexcept {
  StrideState* state = nullptr;
  if (event.pc != 0) {
    state = &table_.find_or_make(event.pc);
  } else {
    all_.advance(event.page);
    Stream& stream = stream_of(event.page);
    stream.used = ++clock_;
    state = &stream.state;
  }
  state->advance(event.page);
  if (state->phase != StrideState::Phase::steady) return;
  // Page numbers have 52 bits, so a step beyond them cannot come back by wrapping within 16 strides.
  for (std::uint64_t i = 1; i <= config_.degree; ++i) {
    if (!out.push_at(static_cast<std::int64_t>(state->stride * i))) break;
  }
}

void Strided::forget() noexcept {
  table_.clear();
  streams_.assign(config_.streams, Stream{});
  all_ = {};
  clock_ = 0;
}

}  // namespace vm::mem::prefetch
