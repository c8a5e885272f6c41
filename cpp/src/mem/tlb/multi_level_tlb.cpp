#include "vm/mem/tlb/multi_level_tlb.hpp"

#include <algorithm>

namespace vm::mem::tlb {

namespace {

// What the elements of a batch have in common.
struct Run {
  const detail::Predictions* predictions;
  const std::uint64_t* vaddr;
  std::uint64_t* paddr;
  PackedHit* facts;
  std::uint64_t start;  // time of element 0
  std::uint32_t context;
};

// Answers elements from `i` on until one is not a predicted hit, and returns that one's index. A function of its own,
// because in a loop that also calls the slow path the compiler keeps half of the variables in memory.
template <bool with_facts>
[[gnu::noinline]] std::size_t hit_run(const Run& run, std::size_t i, std::size_t count) noexcept {
  const Run r = run;
  const std::uint64_t end = r.start + count;
  for (std::uint64_t now = r.start + i; now != end; ++now) {
    const std::uint64_t address = r.vaddr[now - r.start];
    Way* way = r.predictions->way(address);
    if (!(r.predictions->is_page(address) && way->asked == r.context) && !way->hits(address, r.context))
      return now - r.start;
    way->used = now;
    r.paddr[now - r.start] = way->translate(address);
    if constexpr (with_facts) r.facts[now - r.start] = way->facts;
  }
  return count;
}

}  // namespace

MultiLevelTlb::MultiLevelTlb(const TlbConfig& config) : inclusion_(config.inclusion) {
  validate(config);
  std::uint64_t seed = config.seed;
  for (const LevelConfig& shape : levels_of(config)) {
    Level& level = levels_.emplace_back();
    level.array_of.fill(Level::none);
    for (const ArrayConfig& array : shape.arrays) {
      const auto index = static_cast<std::uint8_t>(level.arrays.size());
      level.arrays.emplace_back(array, seed++);
      for (const std::uint8_t size : array.page_sizes) level.array_of[size] = index;
    }
    for (std::uint8_t a = 0; a < shape.arrays.size(); ++a)
      if (shape.arrays[a].page_sizes.empty())
        for (unsigned size = smallest_page_log2; size <= largest_page_log2; ++size)
          if (!level.takes(size)) level.array_of[size] = a;
  }
}

MultiLevelTlb::~MultiLevelTlb() = default;

// Lets the next look-up of `vaddr` find `way`, of level 0, at once. A prefetched entry stays reserved until it is used.
void MultiLevelTlb::predict(std::uint64_t vaddr, Way& way) noexcept {
  const std::size_t place = detail::Predictions::place(vaddr);
  const bool usual = way.size_log2() == detail::Predictions::shift && way.page == way.vaddr();
  predictions_.pages[place] = usual ? way.page >> detail::Predictions::shift : detail::Predictions::none;
  predictions_.ways[place] = &way;
}

// The rest of a look-up that its prediction did not answer. Out of line, so that a hit is all that callers inline.
MultiLevelTlb::Found MultiLevelTlb::find_slowly(std::uint64_t vaddr, std::uint32_t context,
                                                std::uint64_t now) noexcept {
  Way* const predicted = predictions_.way(vaddr);
  if (predicted->hits(vaddr, context)) return {predicted, 0, false};  // of a larger page
  for (std::size_t l = 0; l < levels_.size(); ++l) {
    for (SetAssociativeArray& array : levels_[l].arrays) {
      Way* way = array.find(vaddr, context);
      if (way == nullptr) continue;
      const bool prefetched = way->prefetched();
      if (prefetched) use_prefetched(*way);
      if (l != 0) {
        ++levels_[l].stats.hits;
        way = promote(l, way, now);
      }
      way->used = now;
      way->answer_quickly(context);
      if (levels_[0].takes(way->size_log2())) predict(vaddr, *way);
      return {way, static_cast<std::uint8_t>(l), prefetched};
    }
    ++levels_[l].stats.misses;
  }
  return {nullptr, 0, false};
}

template <bool with_facts>
std::size_t MultiLevelTlb::lookup_batch(const std::uint64_t* vaddr, std::size_t count, std::uint32_t context,
                                        std::uint64_t* paddr, PackedHit* facts) noexcept {
  const std::uint64_t start = clock_ + 1;
  clock_ += count;
  std::size_t misses = 0;
  const Run run{&predictions_, vaddr, paddr, facts, start, context};
  for (std::size_t i = 0; i < count; ++i) {
    i = hit_run<with_facts>(run, i, count);
    if (i == count) break;
    Way* way = find_slowly(vaddr[i], context, start + i).way;
    if (way == nullptr) {
      ++misses;
      paddr[i] = no_address;
      if constexpr (with_facts) facts[i] = 0;
    } else {
      way->used = start + i;
      paddr[i] = way->translate(vaddr[i]);
      if constexpr (with_facts) facts[i] = way->facts;
    }
  }
  return count - misses;
}

std::size_t MultiLevelTlb::lookup(const std::uint64_t* vaddr, std::size_t count, Context context, std::uint64_t* paddr,
                                  PackedHit* facts) noexcept {
  return facts == nullptr ? lookup_batch<false>(vaddr, count, context_word(context), paddr, nullptr)
                          : lookup_batch<true>(vaddr, count, context_word(context), paddr, facts);
}

// The first use of a prefetched entry; its copies are used with it.
void MultiLevelTlb::use_prefetched(Way& way) noexcept {
  ++prefetch_.useful;
  way.facts &= ~packed_hit_prefetched;
  if (inclusion_ == Inclusion::exclusive) return;
  for (Level& level : levels_)
    if (SetAssociativeArray* array = level.array_for(way.size_log2()))
      if (Way* copy = array->find_same(way)) copy->facts &= ~packed_hit_prefetched;
}

Way* MultiLevelTlb::promote(std::size_t from, Way* way, std::uint64_t now) noexcept {
  const std::size_t to = next_level(0, way->size_log2());
  if (to >= from) return way;  // no earlier level takes the size
  // Nothing has been written to the way just now, and `entry` is not written after this: such stores could not be
  // forwarded to the wide loads of a copy, which would wait for them.
  const Way entry = *way;
  way->used = now;
  if (inclusion_ == Inclusion::inclusive) return fill_inclusive(from, entry, now);
  levels_[from].array_for(entry.size_log2())->remove(*way);
  ++levels_[from].stats.promoted;
  return fill_exclusive(entry, now);
}

// Counts a live entry that leaves `level` for good: a prefetched one that was never used goes with the last of its
// copies, which in an inclusive hierarchy is in the last level that takes its size.
void MultiLevelTlb::left(std::size_t level, const Way& way) noexcept {
  if (level == 0) predictions_.forget(way);
  if (!way.prefetched()) return;
  if (inclusion_ == Inclusion::inclusive && next_level(level + 1, way.size_log2()) != levels_.size()) return;
  ++prefetch_.useless;
}

std::size_t MultiLevelTlb::next_level(std::size_t from, unsigned size_log2) const noexcept {
  while (from < levels_.size() && !levels_[from].takes(size_log2)) ++from;
  return from;
}

// Writes `entry` into the levels before `end`, the last one first, so that what is thrown out to keep them inclusive is
// gone before its room is needed. Returns the way in the first level that takes it.
Way* MultiLevelTlb::fill_inclusive(std::size_t end, const Way& entry, std::uint64_t now) noexcept {
  Way* written = nullptr;
  for (std::size_t l = end; l-- != 0;) {
    SetAssociativeArray* array = levels_[l].array_for(entry.size_log2());
    if (array == nullptr) continue;
    Way evicted;
    written = array->insert(entry, now, evicted);
    ++levels_[l].stats.fills;
    if (!evicted.live()) continue;
    ++levels_[l].stats.evictions;
    left(l, evicted);
    for (std::size_t earlier = 0; earlier < l; ++earlier) {
      SetAssociativeArray* other = levels_[earlier].array_for(evicted.size_log2());
      Way* copy = other == nullptr ? nullptr : other->find_same(evicted);
      if (copy == nullptr) continue;
      if (earlier == 0) predictions_.forget(*copy);
      other->remove(*copy);
      ++levels_[earlier].stats.evictions;
    }
  }
  return written;
}

Way* MultiLevelTlb::fill_exclusive(const Way& entry, std::uint64_t now) noexcept {
  Way* written = nullptr;
  Way moving = entry;
  std::size_t l = next_level(0, entry.size_log2());
  while (l != levels_.size()) {
    Way evicted;
    Way* way = levels_[l].array_for(moving.size_log2())->insert(moving, now, evicted);
    if (written == nullptr) written = way;
    ++levels_[l].stats.fills;
    if (!evicted.live()) return written;
    ++levels_[l].stats.evictions;
    if (l == 0) predictions_.forget(evicted);
    moving = evicted;
    l = next_level(l + 1, moving.size_log2());
  }
  if (moving.prefetched()) ++prefetch_.useless;
  return written;
}

bool MultiLevelTlb::overtaken(const Way& entry, FillTicket ticket) const noexcept {
  if (generation_ - ticket.generation > flush_log_size) return true;  // also a ticket that nobody gave
  for (std::uint64_t g = ticket.generation; g != generation_; ++g)
    if (covers(flush_log_[g % flush_log_size], entry)) return true;
  return false;
}

bool MultiLevelTlb::contains(std::uint64_t vaddr, Context context) const noexcept {
  for (const Level& level : levels_)
    for (const SetAssociativeArray& array : level.arrays)
      if (array.holds(vaddr, context_word(context))) return true;
  return false;
}

bool MultiLevelTlb::insert(const Entry& entry, FillTicket ticket) noexcept {
  if (entry.size_log2 > largest_page_log2) return false;
  Way way = way_of(pack(entry));
  if (next_level(0, way.size_log2()) == levels_.size()) return false;
  if (overtaken(way, ticket)) {
    ++rejected_fills_;
    return false;
  }
  ++insertions_;
  const std::uint64_t now = ++clock_;
  for (std::size_t l = 0; l < levels_.size(); ++l)
    if (SetAssociativeArray* array = levels_[l].array_for(way.size_log2()))
      array->remove_conflicts(way, [this, l](const Way& old) {
        ++levels_[l].stats.evictions;
        left(l, old);
      });
  if (way.prefetched()) ++prefetch_.fills;
  Way* written =
      inclusion_ == Inclusion::inclusive ? fill_inclusive(levels_.size(), way, now) : fill_exclusive(way, now);
  if (levels_[0].takes(way.size_log2())) predict(entry.vaddr, *written);
  return true;
}

void MultiLevelTlb::flush(const FlushRequest& request) noexcept {
  flush_log_[generation_++ % flush_log_size] = request;
  for (std::size_t l = 0; l < levels_.size(); ++l)
    for (SetAssociativeArray& array : levels_[l].arrays)
      array.flush(request, [this, l](const Way& way) {
        ++levels_[l].stats.flushed;
        left(l, way);
      });
}

TlbStats MultiLevelTlb::stats() const {
  TlbStats result;
  for (const Level& level : levels_) result.levels.push_back(level.stats);
  // The clock counts look-ups, so that a hit need not.
  result.levels[0].hits = clock_ - insertions_ - result.levels[0].misses;
  result.prefetch = prefetch_;
  result.flushes = generation_;
  result.rejected_fills = rejected_fills_;
  return result;
}

std::size_t MultiLevelTlb::size() const noexcept {
  std::size_t sum = 0;
  for (const Level& level : levels_)
    for (const SetAssociativeArray& array : level.arrays) sum += array.size();
  return sum;
}

std::size_t MultiLevelTlb::capacity() const noexcept {
  std::size_t sum = 0;
  for (const Level& level : levels_)
    for (const SetAssociativeArray& array : level.arrays) sum += array.capacity();
  return sum;
}

std::vector<Entry> MultiLevelTlb::entries(std::size_t level) const {
  std::vector<Entry> result;
  for (const SetAssociativeArray& array : levels_[level].arrays)
    for (const Way& way : array.contents())
      if (way.live()) result.push_back(unpack(packed_of(way)));
  return result;
}

}  // namespace vm::mem::tlb
