// One thread, random operations, against the plainest model: a list of the entries that may be answered from.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "concurrent_support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/tlb/flush.hpp"

namespace vm::mem::tlb {
namespace {

using namespace test;

bool same_answer(const Hit& hit, const Entry& e, std::uint64_t vaddr) {
  return hit.paddr == e.paddr + (vaddr - e.vaddr) && hit.rights == e.rights && hit.usable == e.usable &&
         hit.size_log2 == e.size_log2 && hit.level == e.level && hit.global == e.global;
}

class Model {
 public:
  void insert(const Entry& e) {
    const PackedEntry p = pack(e);
    remove([&](const PackedEntry& old) {
      return old.tag == p.tag && (e.global || answers(old.meta, e.context) || old.meta == p.meta) &&
             unpack(old).context.vmid == e.context.vmid;
    });
    live_.push_back(e);
  }
  void flush(const FlushRequest& request) {
    remove([&](const PackedEntry& old) { return covers(request, old.tag, old.meta); });
  }
  std::vector<Entry> candidates(std::uint64_t vaddr, Context context) const {
    std::vector<Entry> found;
    for (const Entry& e : live_) {
      if (vaddr - e.vaddr < e.page_size() && answers(pack(e).meta, context)) found.push_back(e);
    }
    return found;
  }
  std::size_t size() const { return live_.size(); }

 private:
  template <class Condition>
  void remove(Condition condition) {
    live_.erase(std::remove_if(live_.begin(), live_.end(), [&](const Entry& e) { return condition(pack(e)); }),
                live_.end());
  }
  std::vector<Entry> live_;
};

class Script {
 public:
  explicit Script(std::uint64_t seed) : random_(seed) {}

  std::uint64_t below(std::uint64_t n) { return random_() % n; }
  Context context() { return {static_cast<std::uint16_t>(below(3)), static_cast<std::uint16_t>(below(2))}; }
  std::uint64_t vaddr() { return (below(2) << 30) + (below(3) << 21) + (below(4) << 12) + below(4096); }
  Entry entry() {
    static constexpr std::uint8_t sizes[] = {12, 12, 12, 21, 30};
    Entry e;
    e.size_log2 = sizes[below(5)];
    e.vaddr = vaddr() >> e.size_log2 << e.size_log2;
    e.paddr = below(1 << 20) << 30;
    e.rights = static_cast<Rights>(below(64));
    e.usable = static_cast<Rights>(below(64));
    e.level = static_cast<std::int8_t>(below(4));
    e.global = below(6) == 0;
    e.context = context();
    return e;
  }
  FlushRequest request() {
    switch (below(12)) {
      case 0: return FlushRequest::all();
      case 1: return FlushRequest::asid(context());
      case 2: return FlushRequest::non_global(context().vmid);
      case 3: return FlushRequest::range(vaddr(), below(3) << 30, context());
      case 4: return FlushRequest::range(vaddr(), below(1 << 14), context());
      case 5: return FlushRequest::range(vaddr(), UINT64_MAX, context());
      default: return FlushRequest::page(vaddr(), context());
    }
  }

 private:
  std::mt19937_64 random_;
};

class TlbModel : public ConcurrentTlb {};
INSTANTIATE_TEST_SUITE_P(Shapes, TlbModel, shapes(), shape_name);

// With so many ways for so few pages nothing is evicted, so that every miss has to be one.
class ExactTlbModel : public ConcurrentTlb {};
INSTANTIATE_TEST_SUITE_P(
    Shapes, ExactTlbModel,
    testing::Values(Shape{"sharded", [](std::uint32_t sets) { return std::make_unique<ShardedTlb>(32 * sets, 32); }},
                    Shape{"hybrid",
                          [](std::uint32_t sets) { return std::make_unique<HybridTlb>(24, 8, 32 * sets, 32); }},
                    Shape{"sharded_arrays",
                          [](std::uint32_t sets) { return std::make_unique<ByArrays<ShardedTlb>>(32 * sets, 32U); }},
                    Shape{"sharded_arrays_baseline",
                          [](std::uint32_t sets) {
                            return std::make_unique<ByArrays<ShardedTlb>>(32 * sets, 32U,
                                                                          &detail::baseline_probe_kernel);
                          }}),
    shape_name);

TEST_P(ExactTlbModel, AnswersAsTheModel) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const std::unique_ptr<Tlb> tlb = GetParam().make(19);
    Model model;
    Script script(seed);
    FillTicket old_ticket = tlb->begin_fill();
    std::vector<FlushRequest> since;
    std::uint64_t flushes = 0, rejected = 0, lookups = 0;
    for (int step = 0; step < 6000; ++step) {
      SCOPED_TRACE("seed " + std::to_string(seed) + " step " + std::to_string(step));
      const std::uint64_t kind = script.below(20);
      if (kind < 6) {
        const Entry e = script.entry();
        ASSERT_TRUE(tlb->insert(e, tlb->begin_fill()));
        model.insert(e);
      } else if (kind < 8) {
        // A walk that took long: flushes may have overtaken it.
        const Entry e = script.entry();
        const PackedEntry p = pack(e);
        const bool overtaken =
            since.size() > FlushLog::capacity ||
            std::any_of(since.begin(), since.end(), [&](const FlushRequest& r) { return covers(r, p.tag, p.meta); });
        ASSERT_EQ(tlb->insert(e, old_ticket), !overtaken);
        if (!overtaken) model.insert(e);
        rejected += overtaken ? 1 : 0;
        if (script.below(4) == 0) {
          old_ticket = tlb->begin_fill();
          since.clear();
        }
      } else if (kind == 8) {
        const FlushRequest request = script.request();
        tlb->flush(request);
        model.flush(request);
        since.push_back(request);
        ++flushes;
      } else {
        const std::uint64_t vaddr = script.vaddr();
        const Context context = script.context();
        const std::vector<Entry> candidates = model.candidates(vaddr, context);
        Hit hit;
        ++lookups;
        ASSERT_EQ(tlb->lookup(vaddr, context, hit), !candidates.empty());
        if (!candidates.empty()) {
          ASSERT_TRUE(std::any_of(candidates.begin(), candidates.end(),
                                  [&](const Entry& e) { return same_answer(hit, e, vaddr); }));
        }
      }
      if (tlb->stats().levels.size() == 1) {
        ASSERT_EQ(tlb->size(), model.size());
      }
    }
    const TlbStats stats = tlb->stats();
    EXPECT_EQ(stats.levels.back().evictions, 0U) << "the model does not evict: choose more sets";
    EXPECT_EQ(stats.levels.front().lookups(), lookups);
    EXPECT_EQ(stats.flushes, flushes);
    EXPECT_EQ(stats.rejected_fills, rejected);
    tlb->flush(FlushRequest::all());
    EXPECT_EQ(tlb->size(), 0U);
  }
}

TEST_P(TlbModel, ASmallOneEvictsAndNeverInvents) {
  const std::unique_ptr<Tlb> tlb = GetParam().make(2);
  Model model;  // holds more than the TLB does
  Script script(1);
  for (int step = 0; step < 20000; ++step) {
    if (script.below(3) == 0) {
      const Entry e = script.entry();
      ASSERT_TRUE(tlb->insert(e, tlb->begin_fill()));
      model.insert(e);
    } else {
      const std::uint64_t vaddr = script.vaddr();
      const Context context = script.context();
      Hit hit;
      if (!tlb->lookup(vaddr, context, hit)) continue;
      const std::vector<Entry> candidates = model.candidates(vaddr, context);
      ASSERT_TRUE(std::any_of(candidates.begin(), candidates.end(),
                              [&](const Entry& e) { return same_answer(hit, e, vaddr); }));
    }
  }
  EXPECT_GT(tlb->stats().levels.back().evictions, 0U);
  EXPECT_LE(tlb->size(), tlb->capacity());
}

TEST_P(TlbModel, AFillThatFellTooFarBehindIsRejected) {
  const std::unique_ptr<Tlb> tlb = GetParam().make(4);
  Entry e;
  e.vaddr = 0x1000;
  const FillTicket ticket = tlb->begin_fill();
  for (std::size_t i = 0; i < FlushLog::capacity; ++i) tlb->flush(FlushRequest::page(0x100000));
  EXPECT_TRUE(tlb->insert(e, ticket)) << "all requests can still be read, and none is about this page";
  tlb->flush(FlushRequest::page(0x100000));
  EXPECT_FALSE(tlb->insert(e, ticket));
  EXPECT_EQ(tlb->stats().rejected_fills, 1U);
}

TEST_P(TlbModel, APrefetchedEntryIsUsefulOnceOrUseless) {
  const std::unique_ptr<Tlb> tlb = GetParam().make(16);
  Entry e;
  e.prefetched = true;
  for (e.vaddr = 0x1000; e.vaddr <= 0x8000; e.vaddr += 0x1000) tlb->insert(e, tlb->begin_fill());
  Hit hit;
  ASSERT_TRUE(tlb->lookup(0x1234, {}, hit));
  EXPECT_TRUE(hit.prefetched);
  ASSERT_TRUE(tlb->lookup(0x1234, {}, hit));
  EXPECT_FALSE(hit.prefetched) << "only the first use";
  ASSERT_TRUE(tlb->lookup(0x2000, {}, hit));
  EXPECT_TRUE(hit.prefetched);
  tlb->flush(FlushRequest::page(0x2000));
  tlb->flush(FlushRequest::page(0x3000));
  e.vaddr = 0x4000;
  e.prefetched = false;
  tlb->insert(e, tlb->begin_fill());
  ASSERT_TRUE(tlb->lookup(0x4000, {}, hit));
  EXPECT_FALSE(hit.prefetched);
  PrefetchStats prefetch = tlb->stats().prefetch;
  EXPECT_EQ(prefetch.fills, 8U);
  EXPECT_EQ(prefetch.useful, 2U);
  EXPECT_EQ(prefetch.useless, 2U) << "flushed, and replaced";
  tlb->flush(FlushRequest::all());
  prefetch = tlb->stats().prefetch;
  EXPECT_EQ(prefetch.useful + prefetch.useless, prefetch.fills);
}

TEST_P(TlbModel, EveryAddressBitCounts) {
  const std::unique_ptr<Tlb> tlb = GetParam().make(64);
  Entry e;
  e.vaddr = 0xFFFF'8000'0000'0000;
  e.paddr = 0x000F'FFFF'FFFF'F000;
  ASSERT_TRUE(tlb->insert(e, tlb->begin_fill()));
  Hit hit;
  ASSERT_TRUE(tlb->lookup(e.vaddr | 0xABC, {}, hit));
  EXPECT_EQ(hit.paddr, e.paddr | 0xABC);
  for (unsigned bit = 12; bit < 64; ++bit)
    EXPECT_FALSE(tlb->lookup(e.vaddr ^ (std::uint64_t{1} << bit), {}, hit)) << bit;
  EXPECT_FALSE(tlb->lookup(e.vaddr, {1, 0}, hit));
  EXPECT_FALSE(tlb->lookup(e.vaddr, {0, 1}, hit));
}

TEST(ShardedTlb, DenseRangesFillItToTheLastEntry) {
  ShardedTlb tlb(4096, 4);
  EXPECT_EQ(tlb.capacity(), 4096U);
  Entry e;
  for (std::uint64_t page = 0; page < 4096; ++page) {
    e.vaddr = (page + 0x7'0000'0000) << 12;
    ASSERT_TRUE(tlb.insert(e, tlb.begin_fill()));
  }
  EXPECT_EQ(tlb.size(), 4096U);
  EXPECT_EQ(tlb.stats().levels[0].evictions, 0U);
}

TEST(ShardedTlb, RefusesShapesThatCannotBe) {
  EXPECT_THROW(ShardedTlb(4096, 0), InvalidConfig);
  EXPECT_THROW(ShardedTlb(4096, ShardedTlb::max_ways * 2), InvalidConfig);
  EXPECT_THROW(ShardedTlb(0, 4), InvalidConfig);
  EXPECT_THROW(ShardedTlb(30, 4), InvalidConfig);
  EXPECT_THROW(HybridTlb(0, 4, 64, 4), InvalidConfig);
  EXPECT_THROW(HybridTlb(64, 4, 63, 4), InvalidConfig);
  EXPECT_EQ(ShardedTlb(TlbConfig{}).capacity(), 4096U);
  for (const std::uint32_t ways : {1U, 3U, 5U, 12U, 32U}) {
    ShardedTlb tlb(ways * 3, ways);
    Entry e;
    for (; e.vaddr < (std::uint64_t{64} << 12); e.vaddr += 0x1000) ASSERT_TRUE(tlb.insert(e, tlb.begin_fill()));
    EXPECT_LE(tlb.size(), ways * 3U);
    EXPECT_GE(tlb.size(), ways * 2U);
  }
}

}  // namespace
}  // namespace vm::mem::tlb
