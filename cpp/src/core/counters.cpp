#include "vm/core/counters.hpp"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#include "vm/core/error.hpp"

namespace vm {

namespace {

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::size_t find(const std::vector<std::string>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    throw InvalidConfig("no counter is called '" + std::string(name) + "'; there are: " + joined(names));
  }
  return static_cast<std::size_t>(found - names.begin());
}

}  // namespace

namespace detail {

void throw_counter_index(std::size_t index, std::size_t count) {
  throw OutOfRange("counter " + std::to_string(index) + " asked for, the set has " + std::to_string(count), index, 1);
}

/// Owns the slots. A slot belongs to one writer from `acquire` to `release`; between writers its cells are zero.
class CounterState : public std::enable_shared_from_this<CounterState> {
 public:
  explicit CounterState(std::vector<std::string> names) : names_(std::move(names)), retired_(names_.size()) {}

  const std::vector<std::string>& names() const noexcept { return names_; }

  CounterBlock* acquire() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      CounterBlock* blocks = idle_.back();
      idle_.pop_back();
      return blocks;
    }
    slots_.push_back(std::make_unique<CounterBlock[]>(blocks_per_slot()));
    idle_.reserve(slots_.size());  // so that release cannot fail
    return slots_.back().get();
  }

  void release(CounterBlock* blocks) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (std::size_t i = 0; i < names_.size(); ++i) {
      std::atomic<std::uint64_t>& cell = cell_of(blocks, i);
      retired_[i] += cell.load(std::memory_order_relaxed);
      cell.store(0, std::memory_order_relaxed);
    }
    idle_.push_back(blocks);
  }

  /// For a thread that is past keeping a slot.
  void add_retired(std::size_t index, std::uint64_t n) {
    const std::lock_guard<std::mutex> lock(mutex_);
    retired_[index] += n;
  }

  CounterSnapshot snapshot() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::uint64_t> values = retired_;
    for (const auto& slot : slots_) {
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] += cell_of(slot.get(), i).load(std::memory_order_relaxed);
      }
    }
    return {names_, std::move(values)};
  }

  /// The last `CounterSet` is gone: nobody can ask for a snapshot any more. Relaxed: it only says what may be tidied
  /// up.
  void abandon() noexcept { abandoned_.store(true, std::memory_order_relaxed); }
  bool abandoned() const noexcept { return abandoned_.load(std::memory_order_relaxed); }

 private:
  static std::atomic<std::uint64_t>& cell_of(CounterBlock* blocks, std::size_t index) noexcept {
    return blocks[index / counters_per_block].cells[index % counters_per_block];
  }
  std::size_t blocks_per_slot() const noexcept { return (names_.size() - 1) / counters_per_block + 1; }

  const std::vector<std::string> names_;
  std::atomic<bool> abandoned_{false};
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<CounterBlock[]>> slots_;  // guarded, as are the next two
  std::vector<CounterBlock*> idle_;                     // those of slots_ that have no writer
  std::vector<std::uint64_t> retired_;                  // what released slots had counted
};

}  // namespace detail

namespace {

using detail::CounterState;

// The slots that this thread uses through `CounterSet::add`. An entry keeps its state alive, so that a state's address
// identifies it for as long as the entry exists.
struct ThreadSlots {
  std::unordered_map<const CounterState*, CounterWriter> writers;
  std::size_t sweep_at = 16;

  ~ThreadSlots();
  CounterWriter& writer(const CounterSet& set, const std::shared_ptr<CounterState>& state);
  void sweep();
};

thread_local ThreadSlots thread_slots;
// These have no destructor, so that they can be read until the very end of the thread, after thread_slots is gone.
thread_local const CounterState* last_state = nullptr;
thread_local CounterWriter* last_writer = nullptr;
thread_local bool slots_are_gone = false;

ThreadSlots::~ThreadSlots() {
  last_state = nullptr;
  slots_are_gone = true;
}

CounterWriter& ThreadSlots::writer(const CounterSet& set, const std::shared_ptr<CounterState>& state) {
  const auto found = writers.find(state.get());
  if (found != writers.end()) return found->second;
  if (writers.size() >= sweep_at) sweep();
  return writers.emplace(state.get(), set.writer()).first->second;
}

// Drops the slots of sets that nobody can read any more; otherwise a long-lived thread would collect them.
void ThreadSlots::sweep() {
  last_state = nullptr;
  for (auto entry = writers.begin(); entry != writers.end();) {
    entry = entry->first->abandoned() ? writers.erase(entry) : std::next(entry);
  }
  sweep_at = std::max<std::size_t>(16, 2 * writers.size());
}

}  // namespace

CounterSnapshot::CounterSnapshot(std::vector<std::string> names, std::vector<std::uint64_t> values)
    : names_(std::move(names)), values_(std::move(values)) {
  if (names_.size() != values_.size()) {
    throw InvalidConfig("a snapshot needs a value for each name: " + std::to_string(names_.size()) + " names, " +
                        std::to_string(values_.size()) + " values");
  }
}

std::uint64_t CounterSnapshot::value(std::string_view name) const { return values_[find(names_, name)]; }

void CounterSnapshot::require_same_names(const CounterSnapshot& other) const {
  if (names_ == other.names_) return;
  throw InvalidConfig("snapshots of different counters do not add up: [" + joined(names_) + "] and [" +
                      joined(other.names_) + "]");
}

CounterSnapshot& CounterSnapshot::operator+=(const CounterSnapshot& other) {
  require_same_names(other);
  for (std::size_t i = 0; i < values_.size(); ++i) values_[i] += other.values_[i];
  return *this;
}

CounterSnapshot& CounterSnapshot::operator-=(const CounterSnapshot& other) {
  require_same_names(other);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    if (values_[i] < other.values_[i]) {
      throw InvalidConfig("counter '" + names_[i] + "' would become negative: " + std::to_string(values_[i]) + " - " +
                          std::to_string(other.values_[i]) + "; subtract the earlier snapshot from the later one");
    }
  }
  for (std::size_t i = 0; i < values_.size(); ++i) values_[i] -= other.values_[i];
  return *this;
}

CounterWriter::CounterWriter(std::shared_ptr<CounterState> state)
    : state_(std::move(state)), blocks_(state_->acquire()), count_(state_->names().size()) {}

CounterWriter::CounterWriter(CounterWriter&& other) noexcept
    : state_(std::move(other.state_)),
      blocks_(std::exchange(other.blocks_, nullptr)),
      count_(std::exchange(other.count_, 0)) {}

CounterWriter& CounterWriter::operator=(CounterWriter&& other) noexcept {
  if (this != &other) {
    release();
    state_ = std::move(other.state_);
    blocks_ = std::exchange(other.blocks_, nullptr);
    count_ = std::exchange(other.count_, 0);
  }
  return *this;
}

CounterWriter::~CounterWriter() { release(); }

void CounterWriter::release() noexcept {
  if (state_ != nullptr) state_->release(blocks_);
  state_.reset();
}

CounterSet::CounterSet(std::vector<std::string> names) {
  if (names.empty()) throw InvalidConfig("a counter set needs at least one name");
  std::set<std::string_view> seen;
  for (const std::string& name : names) {
    if (name.empty()) throw InvalidConfig("a counter needs a name; one of [" + joined(names) + "] is empty");
    if (!seen.insert(name).second) throw InvalidConfig("two counters are called '" + name + "'");
  }
  const auto kept_by_writers = std::make_shared<CounterState>(std::move(names));
  state_ = {kept_by_writers.get(), [kept_by_writers](CounterState* state) noexcept { state->abandon(); }};
}

const std::vector<std::string>& CounterSet::names() const noexcept { return state_->names(); }

std::size_t CounterSet::index(std::string_view name) const { return find(names(), name); }

void CounterSet::add(std::size_t index, std::uint64_t n) const {
  if (last_state == state_.get()) return last_writer->add(index, n);
  if (index >= size()) detail::throw_counter_index(index, size());
  if (slots_are_gone) return state_->add_retired(index, n);
  CounterWriter& writer = thread_slots.writer(*this, state_);
  last_state = state_.get();
  last_writer = &writer;
  writer.add(index, n);
}

CounterWriter CounterSet::writer() const { return CounterWriter(state_->shared_from_this()); }

CounterSnapshot CounterSet::snapshot() const { return state_->snapshot(); }

}  // namespace vm
