// The MMU's own behaviour: hits, flushes, address spaces, statistics.

#include <gtest/gtest.h>

#include "support.hpp"

namespace vm::mem {
namespace {

constexpr Access read_write = Access::read | Access::write;

TEST(Mmu, MapsTranslatesAndForgets) {
  Mmu mmu(GuestMemory::anonymous(64 * mib), long_mode());
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7010)).paddr, 0x5010U);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7020)).paddr, 0x5020U);
  const MmuStats before = mmu.stats();
  EXPECT_EQ(before.walks, 1U);
  EXPECT_EQ(before.tlb.levels[0].hits, 1U);
  EXPECT_EQ(before.tlb.levels[0].misses, 1U);

  mmu.unmap_page(GuestVirtual(0x7FFF));
  EXPECT_THROW(mmu.translate(GuestVirtual(0x7010)), PageFault);
  EXPECT_EQ(mmu.stats().faults, 1U);
  EXPECT_THROW(mmu.unmap_page(GuestVirtual(0x7000)), PageFault);

  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x6000), Access::read);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7010)).paddr, 0x6010U);
  try {
    mmu.translate(GuestVirtual(0x7010), Access::write, Privilege::user);
    FAIL();
  } catch (const PageFault& fault) {
    EXPECT_EQ(fault.info().reason, FaultReason::user_denied);
    EXPECT_EQ(fault.info().error_code, 7U);
  }
}

TEST(Mmu, AHitSaysWhatTheWalkSaid) {
  Mmu mmu(GuestMemory::anonymous(64 * mib), long_mode());
  mmu.map({0x4000'0000, 0x20'0000, 0x20'0000, Access::read | Access::execute, true, std::nullopt});
  const paging::Translation walked = mmu.translate(GuestVirtual(0x4012'3456), Access::execute, Privilege::user);
  const paging::Translation hit = mmu.translate(GuestVirtual(0x4012'3456), Access::execute, Privilege::user);
  EXPECT_EQ(mmu.stats().walks, 1U);
  EXPECT_EQ(walked.paddr, 0x32'3456U);
  EXPECT_EQ(hit.paddr, walked.paddr);
  EXPECT_EQ(hit.rights, walked.rights);
  EXPECT_EQ(hit.size_log2, walked.size_log2);
  EXPECT_EQ(hit.level, walked.level);
  EXPECT_EQ(hit.vaddr, walked.vaddr);
}

TEST(Mmu, TheFirstWriteSetsTheDirtyFlagThoughTheReadIsCached) {
  MmuConfig config;
  config.paging.update_accessed_dirty = true;
  auto memory = GuestMemory::anonymous(mib);
  Mmu mmu(memory, long_mode(), config);
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  paging::WalkRecord record;
  mmu.space()->walk(*memory->table(), GuestVirtual(0x7000), Access::none, Privilege::supervisor, nullptr, 0, record);
  const auto entry = [&] {
    std::uint64_t value = 0;
    memory->read(record.leaf_at, &value, sizeof value);
    return value;
  };
  const std::uint64_t clean = entry() & ~std::uint64_t{0x60};
  memory->write(record.leaf_at, &clean, sizeof clean);

  mmu.translate(GuestVirtual(0x7000), Access::none);
  EXPECT_EQ(entry() & 0x60, 0U) << "looking is not using";
  mmu.translate(GuestVirtual(0x7000));
  EXPECT_EQ(entry() & 0x60, 0x20U);
  mmu.translate(GuestVirtual(0x7000));
  mmu.translate(GuestVirtual(0x7000), Access::write);
  EXPECT_EQ(entry() & 0x60, 0x60U);
  const std::uint64_t walks = mmu.stats().walks;
  mmu.translate(GuestVirtual(0x7000), Access::write);
  EXPECT_EQ(mmu.stats().walks, walks);
}

TEST(Mmu, AddressSpacesKeepTheirEntriesApart) {
  auto memory = GuestMemory::anonymous(mib);
  MmuConfig config;
  config.context.asid = 1;
  Mmu mmu(memory, long_mode(0x1000), config);
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7000)).paddr, 0x5000U);

  mmu.switch_to(long_mode(0x2000), {2, 0});
  EXPECT_THROW(mmu.translate(GuestVirtual(0x7000)), PageFault);
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x6000), read_write);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7000)).paddr, 0x6000U);

  const std::uint64_t walks = mmu.stats().walks;
  mmu.switch_to(long_mode(0x1000), {1, 0}, true);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7000)).paddr, 0x5000U);
  EXPECT_EQ(mmu.stats().walks, walks) << "kept";
  mmu.switch_to(long_mode(0x2000), {2, 0});
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7000)).paddr, 0x6000U);
  EXPECT_EQ(mmu.stats().walks, walks + 1) << "flushed on the way in";
}

TEST(Mmu, ChangedModesInvalidateWhatWasCached) {
  auto memory = GuestMemory::anonymous(mib);
  Mmu mmu(memory, long_mode());
  mmu.map({0x7000, 0x5000, 0x1000, Access::read | Access::execute, true, std::nullopt});
  mmu.translate(GuestVirtual(0x7000), Access::execute);
  paging::X86Config guarded = long_mode();
  guarded.smep = true;
  mmu.switch_to(guarded, mmu.context(), true);
  EXPECT_EQ(mmu.try_translate(GuestVirtual(0x7000), Access::execute).reason, FaultReason::supervisor_execute);
}

// Frames that the guest's kernel changes without telling: a processor may go on using what it has, until the flush.
TEST(Mmu, AFlushIsWhatMakesAChangedTableVisible) {
  auto memory = GuestMemory::anonymous(mib);
  Mmu mmu(memory, long_mode());
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  mmu.translate(GuestVirtual(0x7000));
  paging::AddressSpace kernel(memory, long_mode());
  kernel.unmap(0x7000, 0x1000);
  EXPECT_TRUE(mmu.try_translate(GuestVirtual(0x7000)).ok()) << "cached";
  mmu.flush(tlb::FlushRequest::page(0x7000));
  EXPECT_FALSE(mmu.try_translate(GuestVirtual(0x7000)).ok());
}

TEST(Mmu, DelayedFlushesWaitForTheBarrier) {
  MmuConfig config;
  config.tlb.flush_policy = tlb::FlushPolicy::batched;
  Mmu mmu(GuestMemory::anonymous(mib), long_mode(), config);
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  mmu.translate(GuestVirtual(0x7000));
  mmu.unmap_page(GuestVirtual(0x7000));
  EXPECT_EQ(mmu.tlb()->pending_flushes(), 1U);
  EXPECT_TRUE(mmu.try_translate(GuestVirtual(0x7000)).ok());
  mmu.flush_barrier();
  EXPECT_EQ(mmu.tlb()->pending_flushes(), 0U);
  EXPECT_FALSE(mmu.try_translate(GuestVirtual(0x7000)).ok());
}

TEST(Mmu, ThePrefetcherFillsWhatTheTablesMapAndNothingElse) {
  MmuConfig config;
  config.tlb.enable_prefetch = true;
  Mmu mmu(GuestMemory::anonymous(64 * mib), long_mode(), config);
  for (std::uint64_t page = 0; page < 2000; ++page)
    if (page % 10 != 9)
      mmu.map_page(GuestVirtual(0x1000'0000 + page * 4096), GuestPhysical(0x100'0000 + page * 4096), read_write);
  for (std::uint64_t page = 0; page < 2000; ++page) {
    const auto t = mmu.try_translate(GuestVirtual(0x1000'0000 + page * 4096));
    ASSERT_EQ(t.ok(), page % 10 != 9);
    if (!t.ok()) continue;
    ASSERT_EQ(t.paddr, 0x100'0000 + page * 4096);
  }
  const MmuStats stats = mmu.stats();
  EXPECT_GT(stats.prefetch.entries.useful, 500U);
  EXPECT_GT(stats.prefetch.advice.refused, 0U) << "the holes";
  EXPECT_EQ(stats.faults, 200U) << "a prefetch never faults the guest";
  EXPECT_LT(stats.walks, 1500U);
}

TEST(Mmu, ThePrefetcherLearnsThatAPageWasNotMapped) {
  MmuConfig config;
  config.tlb.enable_prefetch = true;
  Mmu mmu(GuestMemory::anonymous(64 * mib), long_mode(), config);
  for (std::uint64_t page = 0; page < 1000; ++page) {
    const GuestVirtual vaddr(0x1000'0000 + page * 4096);
    ASSERT_FALSE(mmu.try_translate(vaddr).ok());
    mmu.map_page(vaddr, GuestPhysical(0x100'0000 + page * 4096), read_write);
    ASSERT_TRUE(mmu.try_translate(vaddr).ok());
  }
  const MmuStats stats = mmu.stats();
  EXPECT_EQ(stats.faults, 1000U);
  EXPECT_EQ(stats.prefetch.advice.events, 1000U) << "faults are none";
  EXPECT_EQ(stats.prefetch_walks, 0U) << "a sequence of first touches cannot be prefetched";
}

// Address spaces often share the tables of the kernel's half. What one frees must not live on in another's walk cache,
// least of all when the frame has become a table of somebody else.
TEST(Mmu, ATableThatOneAddressSpaceFreesIsForgottenByAll) {
  auto memory = GuestMemory::anonymous(mib);
  Mmu mmu(memory, long_mode(0x1000));
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  std::uint64_t shared = 0;
  memory->read(0x1000, &shared, sizeof shared);
  memory->write(0x2000, &shared, sizeof shared);

  mmu.switch_to(long_mode(0x2000), {2, 0});
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7000)).paddr, 0x5000U);
  mmu.switch_to(long_mode(0x1000), {0, 0}, true);
  mmu.unmap_page(GuestVirtual(0x7000));
  mmu.map_page(GuestVirtual(0x4000'0000'6000), GuestPhysical(0x9000), read_write);
  const std::uint64_t none = 0;
  memory->write(0x2000, &none, sizeof none);
  mmu.switch_to(long_mode(0x2000), {2, 0}, true);
  EXPECT_FALSE(mmu.try_translate(GuestVirtual(0x6000)).ok());
}

TEST(Mmu, TagsOfAArch64AreNoPartOfTheAddress) {
  paging::AArch64Config arm;
  arm.ttbr0 = 0x1'0000;
  arm.ttbr1 = 0x2'0000;
  arm.tcr = paging::AArch64Config::default_tcr(4096) | std::uint64_t{3} << 37;
  Mmu mmu(GuestMemory::anonymous(mib), arm);
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  const GuestVirtual tagged(0x5A00'0000'0000'7010);
  const paging::Translation t = mmu.translate(tagged);
  EXPECT_EQ(t.paddr, 0x5010U);
  EXPECT_EQ(t.vaddr, tagged.value);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7020)).paddr, 0x5020U);
  EXPECT_EQ(mmu.stats().walks, 1U) << "one page, whatever the tag";
  std::uint64_t paddr = 0;
  paging::PackedInfo info = 0;
  mmu.translate(&tagged.value, 1, &paddr, &info);
  EXPECT_EQ(paddr, 0x5010U);
  mmu.unmap_page(GuestVirtual(0x7000));
  EXPECT_FALSE(mmu.try_translate(tagged).ok());

  EXPECT_EQ(paging::untagged(arm, 0x5A80'0000'0000'1000), 0xFF80'0000'0000'1000U);
  arm.tcr = paging::AArch64Config::default_tcr(4096);
  EXPECT_EQ(paging::untagged(arm, 0x5A00'0000'0000'1000), 0x5A00'0000'0000'1000U);
  EXPECT_EQ(paging::untagged(long_mode(), 0x5A00'0000'0000'1000), 0x5A00'0000'0000'1000U);
}

TEST(Mmu, PreheatedPagesHitAtTheFirstUse) {
  MmuConfig config;
  config.paging.update_accessed_dirty = true;
  Mmu mmu(GuestMemory::anonymous(mib), long_mode(), config);
  for (std::uint64_t n = 0; n < 4; ++n)
    mmu.map_page(GuestVirtual(0x7000 + n * 0x1000), GuestPhysical(0x10000 + n * 0x1000), read_write);
  const std::uint64_t pages[] = {0x7000, 0x7010, 0x8FFF, 0x9000, 0x5'0000};
  EXPECT_EQ(mmu.preheat(pages, 5), 3U) << "one twice, one not mapped";
  EXPECT_EQ(mmu.translate(GuestVirtual(0x9123)).paddr, 0x12123U);
  const MmuStats stats = mmu.stats();
  EXPECT_EQ(stats.walks, 0U);
  EXPECT_EQ(stats.faults, 0U);
  EXPECT_EQ(stats.prefetch_walks, 4U);
  EXPECT_EQ(stats.tlb.prefetch.useful, 1U);
}

TEST(Mmu, ReconfigurationKeepsTheMeaning) {
  Mmu mmu(GuestMemory::anonymous(mib), long_mode());
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  mmu.translate(GuestVirtual(0x7000));
  tlb::TlbConfig other;
  other.strategy = tlb::Strategy::hybrid;
  other.l3_size = 1024;
  mmu.reconfigure(other, tlb::WalkCacheConfig::off());
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7000)).paddr, 0x5000U);
  EXPECT_EQ(mmu.stats().walks, 2U) << "the new TLB begins empty";
  EXPECT_EQ(mmu.config().tlb.strategy, tlb::Strategy::hybrid);
  other.l3_ways = 0;
  EXPECT_THROW(mmu.reconfigure(other, {}), InvalidConfig);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x7000)).paddr, 0x5000U);
  EXPECT_EQ(mmu.stats().walks, 2U) << "nothing has changed";
}

TEST(Mmu, NothingIsRebuiltUnderAUse) {
  Mmu mmu(GuestMemory::anonymous(mib), long_mode());
  const auto tlb = mmu.tlb();
  {
    const Mmu::Use one(mmu), another(mmu);
    EXPECT_THROW(mmu.reconfigure(tlb::TlbConfig{}, {}), VmError);
    EXPECT_THROW(mmu.switch_to(long_mode(0x2000), {1, 0}), VmError);
  }
  EXPECT_EQ(mmu.tlb(), tlb);
  EXPECT_EQ(mmu.context().asid, 0);
  mmu.switch_to(long_mode(0x2000), {1, 0});
  EXPECT_EQ(mmu.context().asid, 1);
  const Mmu::Use again(mmu);
}

TEST(Mmu, ReconfigurationOfThePrefetcherKeepsTheEntries) {
  MmuConfig config;
  config.tlb.flush_policy = tlb::FlushPolicy::batched;
  Mmu mmu(GuestMemory::anonymous(mib), long_mode(), config);
  for (std::uint64_t page = 0; page < 16; ++page) {
    mmu.map_page(GuestVirtual(0x10'0000 + page * 4096), GuestPhysical(page * 4096), read_write);
    mmu.translate(GuestVirtual(0x10'0000 + page * 4096));
  }
  const MmuStats before = mmu.stats();
  const auto old_tlb = mmu.tlb();
  tlb::TlbConfig prefetching = config.tlb;
  prefetching.enable_prefetch = true;
  mmu.reconfigure(prefetching, config.walk_cache);
  EXPECT_NE(mmu.tlb(), old_tlb);
  EXPECT_TRUE(mmu.tlb()->prefetching());
  EXPECT_EQ(mmu.tlb()->config().prefetch_distance, prefetching.prefetch_distance);
  for (std::uint64_t page = 0; page < 16; ++page) mmu.translate(GuestVirtual(0x10'0000 + page * 4096));
  EXPECT_EQ(mmu.stats().walks, before.walks) << "all of them were still there";
  EXPECT_EQ(mmu.stats().tlb.levels[0].hits, before.tlb.levels[0].hits + 16);

  // Flushes that either asks for reach the entries of both.
  mmu.unmap_page(GuestVirtual(0x10'0000));
  mmu.flush_barrier();
  EXPECT_FALSE(mmu.try_translate(GuestVirtual(0x10'0000)).ok());
  EXPECT_FALSE(old_tlb->contains(0x10'0000, {}));

  // A walk cache that stays is kept beside another TLB.
  mmu.tlb()->flush(tlb::FlushRequest::all());
  mmu.flush_barrier();
  mmu.translate(GuestVirtual(0x10'1000));
  prefetching.l3_size = 1024;
  mmu.reconfigure(prefetching, config.walk_cache);
  const std::uint64_t from_root = mmu.stats().walk_cache.misses;
  EXPECT_EQ(mmu.tlb()->size(), 0U);
  mmu.translate(GuestVirtual(0x10'2000));
  EXPECT_EQ(mmu.stats().walk_cache.misses, from_root);
  EXPECT_THROW(mmu.tlb()->with_prefetcher(config.tlb, nullptr), InvalidConfig);
}

TEST(Mmu, ConfigurationsThatCannotBe) {
  EXPECT_THROW(Mmu(nullptr, long_mode()), InvalidConfig);
  MmuConfig config;
  config.tlb.l1_ways = 0;
  EXPECT_THROW(Mmu(GuestMemory::anonymous(mib), long_mode(), config), InvalidConfig);
  auto memory = GuestMemory::anonymous(mib);
  Mmu mmu(memory, long_mode());
  memory->close();
  EXPECT_THROW(mmu.translate(GuestVirtual(0)), ClosedError);
}

}  // namespace
}  // namespace vm::mem
