// The level of arrays against a map of what was voted in, with every kernel that this machine runs.

#include "vm/mem/tlb/batch_level.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

#include "vm/core/cpu_features.hpp"

namespace vm::mem::tlb {
namespace {

struct Kernel {
  const char* name;
  detail::BatchProbe probe;
};

std::vector<Kernel> kernels() {
  std::vector<Kernel> all{{"baseline", detail::baseline_batch_probe}};
  const CpuFeatures features = CpuFeatures::detect();
  if (features.has(CpuFeature::avx2) && detail::avx2_batch_probe() != nullptr)
    all.push_back({"avx2", detail::avx2_batch_probe()});
  const bool avx512 = features.has(CpuFeature::avx512f) && features.has(CpuFeature::avx512dq) &&
                      features.has(CpuFeature::avx512bw) && features.has(CpuFeature::avx512vl);
  if (avx512 && detail::avx512_batch_probe() != nullptr) all.push_back({"avx512", detail::avx512_batch_probe()});
  return all;
}

struct Answers {
  explicit Answers(std::size_t count)
      : paddr(count),
        facts(count),
        missed(count + detail::batch_probe_slack),
        missed_vaddr(count + detail::batch_probe_slack) {}
  std::vector<std::uint64_t> paddr;
  std::vector<std::uint16_t> facts;
  std::vector<std::uint32_t> missed;
  std::vector<std::uint64_t> missed_vaddr;
};

struct Page {
  std::uint64_t paddr;
  std::uint16_t facts;
  unsigned size;
};

class BatchLevelTest : public testing::TestWithParam<Kernel> {
 protected:
  static bool holds(const BatchLevel& level, std::uint64_t vaddr) {
    Answers a(1);
    return level.lookup(&vaddr, 1, a.paddr.data(), a.facts.data(), a.missed.data(), a.missed_vaddr.data(), 0) == 0;
  }
};

TEST_P(BatchLevelTest, AgreesWithAMapUnderEveryFlush) {
  for (const unsigned shift : {12U, 14U, 16U}) {
    const Context own{3, 1};
    BatchLevel level(own, shift, GetParam().probe);
    std::map<std::uint64_t, Page> voted;  // by page number: what may be answered
    std::mt19937_64 random(shift);
    std::size_t hits = 0, filled = 0, gone = 0;
    for (int step = 0; step < 400; ++step) {
      for (int n = 0; n < 50; ++n) {
        const std::uint64_t page = random() % 3000 + (random() % 2 << 40);
        const unsigned size = page % 1024 < 512 ? shift : shift + 9;
        const std::uint64_t frame = ((page * 7 + static_cast<unsigned>(step) / 100) << shift) & 0xF'FFFF'FFFF'F000;
        const Page now{frame >> shift << shift, static_cast<std::uint16_t>(page & 0x7FFF), size};
        // A translation changes only after a flush.
        const Page known = voted.insert({page, now}).first->second;
        filled +=
            level.vote(page << shift | random() % 4096, known.paddr | 5, known.facts, size) == BatchLevel::Voted::filled
                ? 1
                : 0;
      }
      const std::size_t count = random() % 70;
      std::vector<std::uint64_t> vaddr(count);
      for (auto& v : vaddr) v = (random() % 3100 + (random() % 2 << 40)) << shift | random() % 4096;
      Answers a(count);
      const std::size_t missed = level.lookup(vaddr.data(), count, a.paddr.data(), a.facts.data(), a.missed.data(),
                                              a.missed_vaddr.data(), 1000);
      std::size_t next = 0;
      for (std::size_t i = 0; i < count; ++i) {
        if (next < missed && a.missed[next] == 1000 + i) {
          ASSERT_EQ(a.missed_vaddr[next++], vaddr[i]);
          continue;
        }
        ++hits;
        const auto known = voted.find(vaddr[i] >> shift);
        ASSERT_NE(known, voted.end()) << std::hex << vaddr[i];
        ASSERT_EQ(a.paddr[i], known->second.paddr + (vaddr[i] & ((std::uint64_t{1} << shift) - 1)));
        ASSERT_EQ(a.facts[i], known->second.facts);
      }
      ASSERT_EQ(next, missed);

      const std::uint64_t first = (random() % 3000) << shift | random() % 4096;
      const std::uint64_t size = random() % 4 == 0 ? UINT64_MAX : random() % 4 * (std::uint64_t{1} << shift);
      const Context whose[] = {own, {4, 1}, {3, 2}};
      const FlushRequest request{static_cast<FlushScope>(random() % 5), first, size, whose[random() % 3]};
      if (random() % 4 != 0) continue;
      gone += level.flush(request);
      for (auto page = voted.begin(); page != voted.end();) {
        const std::uint64_t begin = page->first << shift >> page->second.size << page->second.size;
        const std::uint64_t tag = begin | page->second.size;
        const bool covered =
            covers(request, tag, meta_context(own)) || covers(request, tag, meta_context(own) | meta_global);
        page = covered ? voted.erase(page) : std::next(page);
      }
    }
    EXPECT_GT(hits, 100U);
    EXPECT_EQ(level.size(), filled - gone);
    level.flush(FlushRequest::all());
    EXPECT_EQ(level.size(), 0U);
  }
}

TEST_P(BatchLevelTest, WhatIsAskedForMostStays) {
  BatchLevel level({}, 12, GetParam().probe);
  const std::uint64_t hot = 0, cold = BatchLevel::entries << 12 | std::uint64_t{1} << 31;
  // Another page of the same place: found by trying.
  std::uint64_t rival = 1;
  while (detail::batch_place(rival, BatchLevel::entries - 1) != 0) ++rival;
  EXPECT_EQ(level.vote(hot, 0x5000, 1, 12), BatchLevel::Voted::filled);
  level.vote(hot);
  EXPECT_EQ(level.vote(rival << 12, 0x6000, 2, 12), BatchLevel::Voted::stayed);
  EXPECT_EQ(level.vote(rival << 12, 0x6000, 2, 12), BatchLevel::Voted::stayed);
  EXPECT_TRUE(holds(level, hot));
  EXPECT_EQ(level.vote(rival << 12, 0x6000, 2, 12), BatchLevel::Voted::replaced);
  EXPECT_FALSE(holds(level, hot));
  EXPECT_TRUE(holds(level, rival << 12));
  for (int i = 0; i < 100; ++i) level.vote(rival << 12);
  for (std::uint64_t i = 0; i < BatchLevel::most_votes; ++i)
    EXPECT_EQ(level.vote(hot, 0x5000, 1, 12), BatchLevel::Voted::stayed) << "votes are bounded";
  EXPECT_EQ(level.vote(hot, 0x5000, 1, 12), BatchLevel::Voted::replaced);
  level.vote(cold);
  EXPECT_FALSE(holds(level, cold)) << "a vote without a translation brings nothing in";
}

INSTANTIATE_TEST_SUITE_P(Kernels, BatchLevelTest, testing::ValuesIn(kernels()),
                         [](const auto& i) { return std::string(i.param.name); });

TEST(BatchProbe, TheBestOneIsOneOfThem) {
  bool known = false;
  for (const Kernel& kernel : kernels()) known |= kernel.probe == detail::best_batch_probe();
  EXPECT_TRUE(known);
}

}  // namespace
}  // namespace vm::mem::tlb
