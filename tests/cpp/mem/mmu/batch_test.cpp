// Batches give what single translations give, through the TLB and around it.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <set>
#include <thread>

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

// Every scope of a flush and every change of the tables between batches that find much of what the ones before left.
TEST_P(MmuBatchTest, ChangesBetweenLargeBatchesAreSeen) {
  std::mt19937_64 random(5);
  const Access accesses[] = {Access::read, Access::write, Access::execute, Access::read | Access::write, Access::none};
  mmu.map({base + 4 * mib, 0x200'0000, 4 * mib, Access::read | Access::write, true, 2 * mib});
  std::vector<std::uint64_t> vaddr(BatchGuide::smallest_measured);
  for (int step = 0; step < 300; ++step) {
    for (auto& v : vaddr) v = base + random() % 40 * 4096 * (random() % 8 == 0 ? 60 : 1) + random() % 4096;
    const std::uint64_t first = base + random() % 40 * 4096, size = (1 + random() % 4) * 4096;
    try {
      switch (random() % 6) {
        case 0:
          mmu.map({first, (1 + random() % 256) * 65536, size, Access::read, random() % 2 == 0, std::nullopt});
          break;
        case 1: mmu.unmap(random() % 8 == 0 ? base + 4 * mib + first % mib : first, size); break;
        case 2: mmu.protect(first, size, static_cast<Access>(1 | (random() & 6)), random() % 2 == 0); break;
        case 3: mmu.flush({static_cast<tlb::FlushScope>(random() % 5), first, size, mmu.context()}); break;
        default: break;
      }
    } catch (const VmError&) {
      // Already mapped, a hole: then nothing has changed.
    }
    expect_right(vaddr, accesses[random() % 5], random() % 2 == 0 ? Privilege::user : Privilege::supervisor);
  }
  const tlb::LevelStats arrays = mmu.stats().arrays;
  if (GetParam().config.batches == BatchWay::through_tlb) {
    EXPECT_EQ(mmu.stats().bypassed, 0U);
    EXPECT_EQ(arrays.lookups(), 300 * vaddr.size());
    EXPECT_GT(arrays.hits, 10 * vaddr.size());
    EXPECT_GE(arrays.fills, arrays.evictions + arrays.flushed);
    EXPECT_GT(arrays.flushed, 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(Configs, MmuBatchTest, testing::ValuesIn(mmu_configs()),
                         [](const auto& i) { return i.param.name; });

/// Large batches that always ask their TLB.
class MmuArrayTlbTest : public testing::Test {
 protected:
  static MmuConfig through(bool update = false) {
    MmuConfig config;
    config.batches = BatchWay::through_tlb;
    config.paging.update_accessed_dirty = update;
    return config;
  }
  static std::uint64_t translate(Mmu& mmu, std::uint64_t vaddr, Access access = Access::read) {
    // Often enough for the page to be voted in.
    const std::vector<std::uint64_t> many(BatchGuide::smallest_measured, vaddr);
    std::vector<std::uint64_t> paddr(many.size());
    std::vector<paging::PackedInfo> info(many.size());
    paging::BatchRequest request;
    request.access = access;
    mmu.translate(many.data(), many.size(), paddr.data(), info.data(), request);
    for (const std::uint64_t p : paddr) EXPECT_EQ(p, paddr[0]);
    return paddr[0];
  }
  static std::uint64_t leaf(Mmu& mmu, std::uint64_t vaddr) {
    paging::WalkRecord record;
    mmu.space()->walk(*mmu.memory()->table(), GuestVirtual(vaddr), Access::none, Privilege::supervisor, nullptr, 0,
                      record);
    std::uint64_t entry = 0;
    mmu.memory()->read(record.leaf_at, &entry, sizeof entry);
    return entry;
  }
  static constexpr Access read_write = Access::read | Access::write;
};

TEST_F(MmuArrayTlbTest, KeepsTheAddressSpacesApart) {
  Mmu mmu(GuestMemory::anonymous(mib), long_mode(0x1000), through());
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  EXPECT_EQ(translate(mmu, 0x7010), 0x5010U);
  mmu.switch_to(long_mode(0x2000), {1, 0}, true);
  EXPECT_EQ(translate(mmu, 0x7010), paging::no_address);
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x6000), read_write);
  EXPECT_EQ(translate(mmu, 0x7010), 0x6010U);
  const std::uint64_t hits = mmu.stats().arrays.hits;
  mmu.switch_to(long_mode(0x1000), {0, 0}, true);
  EXPECT_EQ(translate(mmu, 0x7010), 0x5010U);
  EXPECT_EQ(mmu.stats().arrays.hits, hits + BatchGuide::smallest_measured) << "kept while the other one ran";
  mmu.switch_to(long_mode(0x2000), {0, 0});
  EXPECT_EQ(translate(mmu, 0x7010), 0x6010U) << "the ASID has another address space now";
  mmu.switch_to(long_mode(0x1000), {0, 3}, true);
  EXPECT_EQ(translate(mmu, 0x7010), 0x5010U) << "another VMID";
}

// A page that is global is flushed for all ASIDs of its VMID by INVLPG in any of them.
TEST_F(MmuArrayTlbTest, AFlushOfAPageReachesAllAddressSpacesOfTheMachine) {
  Mmu mmu(GuestMemory::anonymous(mib), long_mode(0x1000), through());
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  EXPECT_EQ(translate(mmu, 0x7000), 0x5000U);
  paging::WalkRecord record;
  mmu.space()->walk(*mmu.memory()->table(), GuestVirtual(0x7000), Access::none, Privilege::supervisor, nullptr, 0,
                    record);
  const std::uint64_t moved = (leaf(mmu, 0x7000) & ~std::uint64_t{0xF'F000}) | 0x9000 | 0x100;
  mmu.memory()->write(record.leaf_at, &moved, sizeof moved);
  EXPECT_EQ(translate(mmu, 0x7000), 0x5000U) << "not flushed yet";
  mmu.flush(tlb::FlushRequest::page(0x7000, {7, 1}));
  EXPECT_EQ(translate(mmu, 0x7000), 0x5000U) << "another machine";
  mmu.flush(tlb::FlushRequest::page(0x7000, {7, 0}));
  EXPECT_EQ(translate(mmu, 0x7000), 0x9000U);
}

TEST_F(MmuArrayTlbTest, FlagsAreSetAsByWalks) {
  Mmu mmu(GuestMemory::anonymous(mib), long_mode(), through(true));
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  const auto flags = [&] { return leaf(mmu, 0x7000) & 0x60; };
  std::uint64_t at = 0, entry = leaf(mmu, 0x7000) & ~std::uint64_t{0x60};
  {
    paging::WalkRecord record;
    mmu.space()->walk(*mmu.memory()->table(), GuestVirtual(0x7000), Access::none, Privilege::supervisor, nullptr, 0,
                      record);
    at = record.leaf_at;
  }
  mmu.memory()->write(at, &entry, sizeof entry);
  EXPECT_EQ(translate(mmu, 0x7000, Access::none), 0x5000U);
  EXPECT_EQ(translate(mmu, 0x7000, Access::none), 0x5000U);
  EXPECT_EQ(flags(), 0U);
  EXPECT_EQ(translate(mmu, 0x7000, Access::read), 0x5000U);
  EXPECT_EQ(translate(mmu, 0x7000, Access::read), 0x5000U);
  EXPECT_EQ(flags(), 0x20U) << "what was answered without an access must not answer a read";
  EXPECT_EQ(translate(mmu, 0x7000, Access::write), 0x5000U);
  EXPECT_EQ(flags(), 0x60U) << "nor what was read a write";
  mmu.memory()->write(at, &entry, sizeof entry);
  mmu.flush(tlb::FlushRequest::page(0x7000));
  EXPECT_EQ(translate(mmu, 0x7000, Access::write), 0x5000U);
  EXPECT_EQ(flags(), 0x60U);
}

TEST_F(MmuArrayTlbTest, AnotherFormatAndAnotherTlbBeginEmpty) {
  paging::X86Config two = long_mode(0x3000);
  two.levels = 2;
  Mmu mmu(GuestMemory::anonymous(16 * mib), long_mode(0x1000), through());
  mmu.map_page(GuestVirtual(0x40'0000), GuestPhysical(0x5000), read_write);
  EXPECT_EQ(translate(mmu, 0x40'0000), 0x5000U);
  mmu.switch_to(two, {});
  EXPECT_EQ(translate(mmu, 0x40'0000), paging::no_address);
  mmu.map_page(GuestVirtual(0x40'0000), GuestPhysical(0x6000), read_write);
  EXPECT_EQ(translate(mmu, 0x40'0000), 0x6000U);
  paging::AArch64Config arm;
  arm.ttbr0 = 0x10'0000;
  arm.ttbr1 = 0x20'0000;
  arm.granule = 65536;
  arm.tcr = paging::AArch64Config::default_tcr(65536);
  mmu.switch_to(arm, {});
  mmu.map_page(GuestVirtual(0x41'0000), GuestPhysical(0x30'0000), read_write);
  EXPECT_EQ(translate(mmu, 0x41'FFF0), 0x30'FFF0U);
  EXPECT_EQ(translate(mmu, 0x40'0000), paging::no_address);
  mmu.switch_to(long_mode(0x1000), {});
  EXPECT_EQ(translate(mmu, 0x40'0000), 0x5000U);
  const std::uint64_t misses = mmu.stats().arrays.misses;
  tlb::TlbConfig other;
  other.strategy = tlb::Strategy::multi_level;
  mmu.reconfigure(other, {});
  EXPECT_EQ(translate(mmu, 0x40'0000), 0x5000U);
  EXPECT_GT(mmu.stats().arrays.misses, misses);
  mmu.unmap_page(GuestVirtual(0x40'0000));
  EXPECT_EQ(translate(mmu, 0x40'0000), paging::no_address) << "the new TLB's flushes are read";
}

TEST_F(MmuArrayTlbTest, DelayedFlushesActAtTheBarrier) {
  MmuConfig config = through();
  config.tlb.flush_policy = tlb::FlushPolicy::batched;
  Mmu mmu(GuestMemory::anonymous(mib), long_mode(), config);
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  EXPECT_EQ(translate(mmu, 0x7000), 0x5000U);
  mmu.unmap_page(GuestVirtual(0x7000));
  mmu.flush_barrier();
  EXPECT_EQ(translate(mmu, 0x7000), paging::no_address);
}

TEST(TlbFronts, KeepsAFewAndFindsThemAgain) {
  tlb::FlushLog log;
  TlbFronts fronts;
  const auto key = [](std::uint16_t asid) { return TlbFront::Key{{asid, 0}, Access::read, Privilege::user}; };
  std::unique_ptr<TlbFront> first = fronts.take(key(0), 12, log);
  const std::uint64_t vaddr = 0x7000, paddr = 0x5000;
  const paging::PackedInfo info = paging::pack_success(7, 12, 0);
  first->learn_all(&vaddr, 1, &paddr, &info);
  EXPECT_EQ(first->count_known(&vaddr, 1), 1U);
  EXPECT_EQ(fronts.take(key(0), 12, log)->count_known(&vaddr, 1), 0U) << "one user at a time";
  fronts.give_back(std::move(first));
  first = fronts.take(key(0), 12, log);
  EXPECT_EQ(first->count_known(&vaddr, 1), 1U);
  EXPECT_EQ(first->take_counts().fills, 1U);
  EXPECT_EQ(first->take_counts().fills, 0U);
  fronts.give_back(std::move(first));
  log.begin(tlb::FlushRequest::page(0x7000));
  log.complete();
  first = fronts.take(key(0), 12, log);
  EXPECT_EQ(first->count_known(&vaddr, 1), 0U);
  EXPECT_EQ(first->take_counts().flushed, 1U);
  first->learn_all(&vaddr, 1, &paddr, &info);
  for (std::size_t i = 0; i <= tlb::FlushLog::capacity; ++i) log.begin(tlb::FlushRequest::page(0x1000));
  EXPECT_EQ(first->count_known(&vaddr, 1), 0U) << "more flushes than the log keeps";
  fronts.give_back(std::move(first));
  for (std::uint16_t asid = 1; asid <= TlbFronts::most_kept; ++asid) fronts.give_back(fronts.take(key(asid), 12, log));
  EXPECT_EQ(fronts.take(key(0), 12, log)->count_known(&vaddr, 1), 0U) << "it had to make room";
  fronts.clear();
}

TEST(BatchGuide, ChoosesByWhatItMeasured) {
  BatchGuide guide;
  EXPECT_FALSE(guide.through_tlb(100, 100)) << "nothing is known of the walker yet";
  guide.record_walker(8000, 1000);
  EXPECT_DOUBLE_EQ(guide.walker_ns(), 8.0);
  guide.sample_begin(4096);  // turn 0 is one that refreshes
  EXPECT_TRUE(guide.through_tlb(100, 100)) << "1 is guessed, against 8";
  EXPECT_TRUE(guide.through_tlb(40, 100)) << "1 + 0.6 * 8 * 1.25 against 8";
  EXPECT_FALSE(guide.through_tlb(20, 100)) << "1 + 0.8 * 8 * 1.25 against 8";
  EXPECT_FALSE(guide.through_tlb(0, 0));
  guide.record_tlb(9000, 1000, 500);
  EXPECT_TRUE(guide.through_tlb(70, 100)) << "9 - 0.5 * 8 * 1.25 = 4; 4 + 0.3 * 8 * 1.25 against 8";
  EXPECT_FALSE(guide.through_tlb(60, 100)) << "4 + 0.4 * 8 * 1.25 against 8";
  for (int i = 0; i < 20; ++i) guide.record_walker(8000, 1000);
  EXPECT_TRUE(guide.through_tlb(60, 100)) << "what was measured long ago is tried again";
  guide.record_walker(4000, 1000);
  EXPECT_DOUBLE_EQ(guide.walker_ns(), 4.0) << "down at once";
  guide.record_walker(8000, 1000);
  EXPECT_NEAR(guide.walker_ns(), 4.25, 0.01) << "up by a sixteenth";
}

TEST(MmuBatch, AddressesThatChangeUnderItMisleadNobodyLater) {
  Mmu mmu(GuestMemory::anonymous(mib), long_mode());
  mmu.map({0x40'0000, 0x4'0000, 0x2000, Access::read, false, 4096});
  std::vector<std::uint64_t> vaddr(BatchGuide::smallest_measured, 0x40'0000), paddr(vaddr.size());
  std::vector<paging::PackedInfo> info(vaddr.size());
  paging::BatchRequest request;
  request.keep_going = [&] {  // comes after the walk
    std::fill(vaddr.begin(), vaddr.end(), 0x40'1000);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the guide takes walks for dear
    return true;
  };
  mmu.translate(vaddr.data(), vaddr.size(), paddr.data(), info.data(), request);
  EXPECT_EQ(paddr[0], 0x4'0000U);
  mmu.translate(vaddr.data(), vaddr.size(), paddr.data(), info.data());
  EXPECT_EQ(std::count(paddr.begin(), paddr.end(), 0x4'1000U), std::ptrdiff_t{BatchGuide::smallest_measured});
  EXPECT_GT(mmu.stats().arrays.hits, 0U);
}

TEST(BatchGuide, LooksAtAnotherPartEachTimeAndSometimesGoesAround) {
  BatchGuide guide;
  guide.record_walker(8000, 1000);
  EXPECT_EQ(BatchGuide::sample_size(1 << 20), 1024U);
  EXPECT_EQ(BatchGuide::sample_size(4096), 16U);
  std::set<std::size_t> places;
  unsigned around = 0;
  for (std::uint32_t i = 0; i < 2 * BatchGuide::refresh_interval; ++i) {
    const std::size_t begin = guide.sample_begin(1 << 20);
    EXPECT_LE(begin + 1024, std::size_t{1} << 20);
    places.insert(begin / 16384);
    around += guide.through_tlb(100, 100) ? 0 : 1;
  }
  EXPECT_GT(places.size(), 50U) << "of 64 parts";
  EXPECT_EQ(around, 2U);
}

}  // namespace
}  // namespace vm::mem
