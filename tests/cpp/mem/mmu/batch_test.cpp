// Batches give what single translations give, through the TLB and around it.

#include <gtest/gtest.h>

#include <random>

#include "support.hpp"

namespace vm::mem {
namespace {

class MmuBatchTest : public testing::TestWithParam<NamedConfig> {
 protected:
  void SetUp() override {
    for (std::uint64_t page = 0; page < 512; ++page)
      if (page % 7 != 3)
        mmu.map({base + page * 4096, 0x100'0000 + page * 8192, 4096,
                 page % 5 == 0 ? Access::read : Access::read | Access::write, page % 3 == 0, std::nullopt});
  }

  void expect_right(const std::vector<std::uint64_t>& vaddr, Access access, Privilege privilege,
                    paging::BatchRequest request = {}) {
    request.access = access;
    request.privilege = privilege;
    std::vector<std::uint64_t> paddr(vaddr.size());
    std::vector<paging::PackedInfo> info(vaddr.size());
    mmu.translate(vaddr.data(), vaddr.size(), paddr.data(), info.data(), request);
    for (std::size_t i = 0; i < vaddr.size(); ++i) {
      const auto t = plain.try_translate(GuestVirtual(vaddr[i]), access, privilege);
      ASSERT_EQ(paddr[i], t.ok() ? t.paddr : paging::no_address) << i;
      ASSERT_EQ(info[i], pack(t)) << i;
    }
  }

  static constexpr std::uint64_t base = 0x7000'0000;
  std::shared_ptr<GuestMemory> memory = GuestMemory::anonymous(64 * mib);
  Mmu mmu{memory, long_mode(), GetParam().config};
  paging::AddressSpace plain{memory, long_mode()};
};

TEST_P(MmuBatchTest, EverySizeAndSkew) {
  std::mt19937_64 random(3);
  for (const std::size_t count :
       {std::size_t{0}, std::size_t{1}, std::size_t{300}, std::size_t{4096}, std::size_t{70'000}}) {
    for (const std::uint64_t pages : {std::uint64_t{4}, std::uint64_t{540}}) {
      std::vector<std::uint64_t> vaddr(count);
      for (auto& v : vaddr) v = base + random() % (pages * 4096);
      for (int again = 0; again < 3; ++again) {
        expect_right(vaddr, Access::read, Privilege::supervisor);
        expect_right(vaddr, Access::write, Privilege::user);
      }
    }
  }
}

TEST_P(MmuBatchTest, ThreadsAndEnginesGoAround) {
  std::vector<std::uint64_t> vaddr(50'000, base);
  paging::BatchRequest request;
  request.threads = 2;
  expect_right(vaddr, Access::read, Privilege::supervisor, request);
  request.threads = 1;
  request.engine = paging::Engine::walk;
  expect_right(vaddr, Access::read, Privilege::supervisor, request);
  EXPECT_EQ(mmu.stats().bypassed, 100'000U);
  EXPECT_EQ(mmu.stats().walks, 0U);
}

TEST_P(MmuBatchTest, SmallBatchesFillTheTlb) {
  const std::vector<std::uint64_t> vaddr(100, base);
  expect_right(vaddr, Access::read, Privilege::supervisor);
  expect_right(vaddr, Access::read, Privilege::supervisor);
  std::uint64_t hits = 0;
  for (const auto& level : mmu.stats().tlb.levels) hits += level.hits;
  EXPECT_GE(hits, 100U);
}

INSTANTIATE_TEST_SUITE_P(Configs, MmuBatchTest, testing::ValuesIn(mmu_configs()),
                         [](const auto& i) { return i.param.name; });

TEST(BatchGuide, ChoosesByWhatItMeasured) {
  BatchGuide guide;
  EXPECT_FALSE(guide.through_tlb(0.1, 100, 100)) << "nothing is known of the walker yet";
  guide.record_walker(8000, 1000);
  EXPECT_DOUBLE_EQ(guide.walker_ns(), 8.0);
  EXPECT_TRUE(guide.through_tlb(2.0, 90, 100)) << "2 + 0.1 * 8 * 1.5 against 8";
  EXPECT_FALSE(guide.through_tlb(2.0, 40, 100)) << "2 + 0.6 * 8 * 1.5 against 8";
  EXPECT_FALSE(guide.through_tlb(7.5, 100, 100));
  EXPECT_FALSE(guide.through_tlb(0.0, 0, 0));
  guide.record_walker(4000, 1000);
  EXPECT_DOUBLE_EQ(guide.walker_ns(), 7.0);
  EXPECT_EQ(guide.fill_interval(), 1072U) << "150 ns in 1072 elements of 7 ns: 2 %";
  EXPECT_EQ(BatchGuide().fill_interval(), 4096U);
  EXPECT_EQ(BatchGuide::sample_size(1 << 20), 2048U);
  EXPECT_EQ(BatchGuide::sample_size(4096), 16U);
}

}  // namespace
}  // namespace vm::mem
