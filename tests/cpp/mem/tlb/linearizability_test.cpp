// Threads that change a table and flush, look up, and fill, all at once: no look-up may answer with a version of the
// table that a flush which returned before the look-up began was about.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "concurrent_support.hpp"

namespace vm::mem::tlb {
namespace {

using namespace test;

constexpr std::uint64_t page_count = 48;
constexpr int lookups_each = 30'000;

// Pages 0..31 are small, the others large; each belongs to one of two address spaces.
struct Page {
  std::uint64_t number;

  std::uint8_t size_log2() const { return number < 32 ? 12 : 21; }
  std::uint64_t vaddr() const { return (std::uint64_t{1} << 30) + (number << size_log2()); }
  Context context() const { return {static_cast<std::uint16_t>(1 + number % 2), 3}; }

  // Every word of the entry says which version it is, so that words of different versions show.
  Entry entry(std::uint64_t version) const {
    Entry e;
    e.vaddr = vaddr();
    e.paddr = (number << 48) | (version << 21);
    e.rights = static_cast<Rights>(version & 63);
    e.usable = static_cast<Rights>(version >> 6 & 63);
    e.size_log2 = size_log2();
    e.level = static_cast<std::int8_t>(version % 5);
    e.context = context();
    e.prefetched = version % 3 == 0;
    return e;
  }
  // The version; UINT64_MAX when the answer is not one of this page's entries.
  std::uint64_t version_of(const Hit& hit) const {
    const std::uint64_t version = (hit.paddr & ((std::uint64_t{1} << 48) - 1)) >> 21;
    const Entry e = entry(version);
    const bool whole = hit.paddr == e.paddr && hit.rights == e.rights && hit.usable == e.usable &&
                       hit.size_log2 == e.size_log2 && hit.level == e.level;
    return whole ? version : UINT64_MAX;
  }
};

struct Table {
  std::array<std::atomic<std::uint64_t>, page_count> version{};  // what a walk finds
  std::array<std::atomic<std::uint64_t>, page_count> floor{};    // at least this after a flush that has returned

  // Changes a page and flushes it as `scope` says; then all pages that the scope covers are as new as they were before.
  void change(Tlb& tlb, FlushScope scope, std::uint64_t number) {
    version[number].fetch_add(1, std::memory_order_acq_rel);
    const Page page{number};
    FlushRequest request;
    switch (scope) {
      case FlushScope::page: request = FlushRequest::page(page.vaddr() + number, page.context()); break;
      case FlushScope::range: request = FlushRequest::range(page.vaddr(), 2 * 4096, page.context()); break;
      case FlushScope::asid: request = FlushRequest::asid(page.context()); break;
      case FlushScope::non_global: request = FlushRequest::non_global(page.context().vmid); break;
      case FlushScope::all: request = FlushRequest::all(); break;
    }
    std::array<std::uint64_t, page_count> before;
    for (std::uint64_t i = 0; i < page_count; ++i) before[i] = version[i].load(std::memory_order_acquire);
    tlb.flush(request);
    for (std::uint64_t i = 0; i < page_count; ++i) {
      const PackedEntry entry = pack(Page{i}.entry(0));
      if (!covers(request, entry.tag, entry.meta)) continue;
      std::uint64_t old = floor[i].load(std::memory_order_relaxed);
      while (old < before[i] && !floor[i].compare_exchange_weak(old, before[i], std::memory_order_release)) {
      }
    }
  }
};

struct Outcome {
  std::uint64_t hits = 0, misses = 0, stale = 0, foreign = 0, early = 0;
};

template <class Lookup, class Insert>
Outcome read_and_fill(Table& table, std::atomic<int>& reading, std::uint64_t seed, const Tlb& tlb, Lookup&& lookup,
                      Insert&& insert) {
  Outcome outcome;
  std::mt19937_64 random(seed);
  for (int step = 0; step < lookups_each; ++step) {
    const Page page{random() % page_count};
    const std::uint64_t floor = table.floor[page.number].load(std::memory_order_acquire);
    Hit hit;
    if (lookup(page.vaddr(), page.context(), hit)) {
      const std::uint64_t version = page.version_of(hit);
      if (version == UINT64_MAX) {
        ++outcome.foreign;
      } else {
        outcome.stale += version < floor ? 1 : 0;
        outcome.early += version > table.version[page.number].load(std::memory_order_acquire) ? 1 : 0;
      }
      ++outcome.hits;
      if (random() % 64 != 0) continue;  // sometimes a walk although there was a hit: fills replace entries in place
    }
    ++outcome.misses;
    const FillTicket ticket = tlb.begin_fill();
    const std::uint64_t version = table.version[page.number].load(std::memory_order_acquire);
    if (random() % 256 == 0) std::this_thread::yield();  // a walk may take long
    insert(page.entry(version), ticket);
  }
  reading.fetch_sub(1, std::memory_order_release);
  return outcome;
}

void expect_clean(const Outcome& outcome) {
  EXPECT_EQ(outcome.stale, 0U) << "answers older than a flush that had returned";
  EXPECT_EQ(outcome.foreign, 0U) << "answers that are no entry of the page, or a mixture";
  EXPECT_EQ(outcome.early, 0U);
}

// Changes pages for as long as somebody reads, in bursts and with pauses. Returns the number of flushes.
std::uint64_t change_table(Table& table, Tlb& tlb, const std::atomic<int>& reading, std::uint64_t seed,
                           const std::vector<FlushScope>& scopes, std::uint64_t longest_pause) {
  std::mt19937_64 random(seed);
  std::uint64_t flushes = 0;
  for (; reading.load(std::memory_order_acquire) != 0; ++flushes) {
    table.change(tlb, scopes[random() % scopes.size()], random() % page_count);
    for (std::uint64_t pause = random() % longest_pause; pause != 0; --pause) detail::relax();
    if (random() % 8 == 0) std::this_thread::yield();
  }
  return flushes;
}

class Linearizability : public ConcurrentTlb {
 protected:
  void stress(const std::vector<FlushScope>& scopes) {
    const std::unique_ptr<Tlb> tlb = GetParam().make(8);
    Table table;
    std::array<Outcome, 2> outcomes;
    std::atomic<int> reading{static_cast<int>(outcomes.size())};
    std::vector<std::thread> readers;
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      readers.emplace_back([&, i] {
        outcomes[i] = read_and_fill(
            table, reading, i, *tlb,
            [&](auto vaddr, auto context, auto& hit) { return tlb->lookup(vaddr, context, hit); },
            [&](const Entry& entry, FillTicket ticket) { tlb->insert(entry, ticket); });
      });
    }
    std::uint64_t flushes = 0;
    std::thread second([&] { flushes = change_table(table, *tlb, reading, 100, scopes, 100); });
    const std::uint64_t others = change_table(table, *tlb, reading, 101, scopes, 1000);
    second.join();
    for (std::thread& reader : readers) reader.join();
    flushes += others;

    std::uint64_t hits = 0, misses = 0;
    for (const Outcome& outcome : outcomes) {
      expect_clean(outcome);
      hits += outcome.hits;
    }
    const TlbStats before = tlb->stats();
    for (const LevelStats& level : before.levels) misses = level.misses;
    std::uint64_t counted = 0;
    for (const LevelStats& level : before.levels) counted += level.hits;
    EXPECT_EQ(counted, hits);
    EXPECT_EQ(before.levels.front().lookups(), counted + misses);
    EXPECT_EQ(before.flushes, flushes);
    tlb->flush(FlushRequest::all());
    EXPECT_EQ(tlb->size(), 0U);
    const PrefetchStats prefetch = tlb->stats().prefetch;
    EXPECT_EQ(prefetch.useful + prefetch.useless, prefetch.fills) << "each once, whatever happened at the same time";
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, Linearizability, shapes(), shape_name);

TEST_P(Linearizability, Pages) { stress({FlushScope::page}); }
TEST_P(Linearizability, Ranges) { stress({FlushScope::range}); }
TEST_P(Linearizability, AddressSpaces) { stress({FlushScope::asid, FlushScope::non_global}); }
TEST_P(Linearizability, Everything) { stress({FlushScope::all}); }
TEST_P(Linearizability, AllScopes) {
  stress({FlushScope::page, FlushScope::page, FlushScope::page, FlushScope::range, FlushScope::asid,
          FlushScope::non_global, FlushScope::all});
}

// As read_and_fill, by arrays: what a flush covered that had returned before the array was asked for must be gone.
template <class T>
Outcome read_arrays_and_fill(T& tlb, Table& table, std::atomic<int>& reading, std::uint64_t seed) {
  constexpr std::size_t length = 40;
  Outcome outcome;
  std::mt19937_64 random(seed);
  std::array<std::uint64_t, length> vaddr{}, number{}, floor{};
  std::array<Hit, length> hit;
  std::array<bool, length> found{};
  for (std::uint64_t step = 0; step < lookups_each / length; ++step) {
    const Context context = Page{step % 2}.context();
    for (std::size_t i = 0; i < length; ++i) {
      number[i] = random() % (page_count / 2) * 2 + step % 2;  // of that address space
      vaddr[i] = Page{number[i]}.vaddr();
      floor[i] = table.floor[number[i]].load(std::memory_order_acquire);
    }
    const std::size_t hits = tlb.lookup(vaddr.data(), length, context, hit.data(), found.data());
    std::size_t seen = 0;
    for (std::size_t i = 0; i < length; ++i) {
      const Page page{number[i]};
      if (found[i]) {
        ++seen;
        const std::uint64_t version = page.version_of(hit[i]);
        if (version == UINT64_MAX) {
          ++outcome.foreign;
        } else {
          outcome.stale += version < floor[i] ? 1 : 0;
          outcome.early += version > table.version[page.number].load(std::memory_order_acquire) ? 1 : 0;
        }
        if (random() % 64 != 0) continue;
      }
      const FillTicket ticket = tlb.begin_fill();
      tlb.insert(page.entry(table.version[page.number].load(std::memory_order_acquire)), ticket);
    }
    outcome.foreign += hits != seen ? 1 : 0;
    outcome.hits += hits;
    outcome.misses += length - hits;
  }
  reading.fetch_sub(1, std::memory_order_release);
  return outcome;
}

template <class T>
void stress_arrays(T& tlb) {
  Table table;
  std::array<Outcome, 2> outcomes;
  std::atomic<int> reading{static_cast<int>(outcomes.size())};
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < outcomes.size(); ++i)
    readers.emplace_back([&, i] { outcomes[i] = read_arrays_and_fill(tlb, table, reading, i); });
  change_table(table, tlb, reading, 9, {FlushScope::page, FlushScope::page, FlushScope::range, FlushScope::asid}, 300);
  for (std::thread& reader : readers) reader.join();
  std::uint64_t lookups = 0;
  for (const Outcome& outcome : outcomes) {
    expect_clean(outcome);
    lookups += outcome.hits + outcome.misses;
    EXPECT_GT(outcome.hits, 0U);
  }
  EXPECT_EQ(tlb.stats().levels.front().lookups(), lookups);
  tlb.flush(FlushRequest::all());
  const PrefetchStats prefetch = tlb.stats().prefetch;
  EXPECT_EQ(prefetch.useful + prefetch.useless, prefetch.fills);
}

TEST(ArrayLinearizability, Sharded) {
  ShardedTlb tlb(32, 4);
  stress_arrays(tlb);
}
TEST(ArrayLinearizability, ShardedOfAnotherShape) {
  ShardedTlb tlb(56, 8);
  stress_arrays(tlb);
}
TEST(ArrayLinearizability, ShardedBaselineKernel) {
  ShardedTlb tlb(32, 4, detail::baseline_probe_kernel);
  stress_arrays(tlb);
}
TEST(ArrayLinearizability, Hybrid) {
  HybridTlb tlb(16, 4, 32, 4);
  stress_arrays(tlb);
}

TEST(HybridLinearizability, HandlesOfTheirOwn) {
  HybridTlb tlb(16, 4, 32, 4);
  Table table;
  std::array<Outcome, 2> outcomes;
  std::atomic<int> reading{static_cast<int>(outcomes.size())};
  std::vector<std::thread> readers;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    readers.emplace_back([&, i] {
      HybridTlb::Local local = tlb.local();
      outcomes[i] = read_and_fill(
          table, reading, i, tlb,
          [&](auto vaddr, auto context, auto& hit) { return local.lookup(vaddr, context, hit); },
          [&](const Entry& entry, FillTicket ticket) { local.insert(entry, ticket); });
    });
  }
  // With long pauses, so that private levels are in use.
  change_table(table, tlb, reading, 7, {FlushScope::page}, 10000);
  for (std::thread& reader : readers) reader.join();
  for (const Outcome& outcome : outcomes) expect_clean(outcome);
  EXPECT_GT(tlb.stats().levels[0].hits, 0U);
}

}  // namespace
}  // namespace vm::mem::tlb
