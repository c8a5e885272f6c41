// What must not outlive a change: of the format, of the address space, of the tables, of what lies behind an address.

#include <gtest/gtest.h>

#include "support.hpp"

namespace vm::mem {
namespace {

constexpr Access read_write = Access::read | Access::write;

// A last-level table translates 4 MiB in 32-bit paging and 2 MiB in the others: a walk cache that kept the old spans
// would begin the walk of a second 2 MiB at the table of the first.
TEST(MmuStale, TablesOfAnotherFormatHaveOtherSpans) {
  paging::X86Config two = long_mode(0x1000);
  two.levels = 2;
  Mmu mmu(GuestMemory::anonymous(16 * mib), two);
  mmu.switch_to(long_mode(0x2000), {});
  mmu.map_page(GuestVirtual(0x40'0000), GuestPhysical(0x5000), read_write);
  mmu.map_page(GuestVirtual(0x60'0000), GuestPhysical(0x6000), read_write);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x40'0000)).paddr, 0x5000U);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x60'0000)).paddr, 0x6000U);

  mmu.switch_to(two, {});
  mmu.map_page(GuestVirtual(0x80'0000), GuestPhysical(0x7000), read_write);
  mmu.map_page(GuestVirtual(0xA0'0000), GuestPhysical(0x8000), read_write);
  EXPECT_EQ(mmu.translate(GuestVirtual(0x80'0000)).paddr, 0x7000U);
  EXPECT_EQ(mmu.translate(GuestVirtual(0xA0'0000)).paddr, 0x8000U);
}

TEST(MmuStale, TablesThatWereOnlyLookedAtStillGetTheirAccessedFlag) {
  MmuConfig config;
  config.paging.update_accessed_dirty = true;
  auto memory = GuestMemory::anonymous(mib);
  Mmu mmu(memory, long_mode(), config);
  mmu.map_page(GuestVirtual(0), GuestPhysical(0x5000), read_write);
  paging::WalkRecord record;
  mmu.space()->walk(*memory->table(), GuestVirtual(0), Access::none, Privilege::supervisor, nullptr, 0, record);
  const auto entry = [&](int level) {
    std::uint64_t value = 0;
    memory->read(record.tables[level].table, &value, sizeof value);
    return value;
  };
  for (int level = 0; level < 4; ++level) {
    const std::uint64_t unused = entry(level) & ~std::uint64_t{0x60};
    memory->write(record.tables[level].table, &unused, sizeof unused);
  }
  mmu.translate(GuestVirtual(0), Access::none);
  for (int level = 0; level < 4; ++level) EXPECT_EQ(entry(level) & 0x20, 0U) << level;
  mmu.translate(GuestVirtual(0));
  for (int level = 0; level < 4; ++level) EXPECT_EQ(entry(level) & 0x20, 0x20U) << level;
}

TEST(MmuStale, NoPolicyKeepsTranslationsOfTheAddressSpaceBefore) {
  for (const tlb::FlushPolicy policy : {tlb::FlushPolicy::batched, tlb::FlushPolicy::delayed}) {
    MmuConfig config;
    config.tlb.flush_policy = policy;
    config.tlb.flush_delay_ns = UINT64_MAX;
    Mmu mmu(GuestMemory::anonymous(mib), long_mode(0x1000), config);
    mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
    mmu.translate(GuestVirtual(0x7000));
    mmu.switch_to(long_mode(0x2000), {});
    EXPECT_FALSE(mmu.try_translate(GuestVirtual(0x7000)).ok());
  }
}

TEST(MmuStale, MemoryThatIsAddedLaterHidesThePartOfADeviceThatItCovers) {
  class Ones final : public MmioHandler {
    std::uint64_t read(std::uint64_t, unsigned) override { return UINT64_MAX; }
    void write(std::uint64_t, unsigned, std::uint64_t) override {}
  };
  auto memory = GuestMemory::anonymous(mib);
  Mmu mmu(memory, long_mode());
  mmu.mmio().add({0x20'0000, 0x1000, all_mmio_widths, "ones", std::make_shared<Ones>()});
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x20'0000), read_write);
  memory->add(*GuestMemory::anonymous(0x1000, 0x20'0804));
  EXPECT_EQ(mmu.load<std::uint64_t>(GuestVirtual(0x7800)), 0xFFFF'FFFFU);
  std::uint64_t words[2] = {};
  mmu.read(GuestVirtual(0x77F8), words, sizeof words);
  EXPECT_EQ(words[0], UINT64_MAX);
  EXPECT_EQ(words[1], 0xFFFF'FFFFU);
}

// A walk of lazy memory waits for a page source, and a walk of Python's for the GIL: whoever has that may ask this.
TEST(UnifiedTlb, StatisticsDoNotWaitForAWalk) {
  tlb::TlbConfig config;
  config.enable_prefetch = true;
  UnifiedTlb tlb(config);
  unsigned walked = 0;
  for (std::uint64_t page = 0; page < 200; ++page)
    tlb.advise(page << 12, false, {}, [&](std::uint64_t candidate) {
      ++walked;
      tlb.advise(candidate, false, {}, [](std::uint64_t) -> bool { throw InvalidConfig("nobody else walks now"); });
      return !tlb.describe_prefetcher().empty() && tlb.prefetch_report().advice.events != 0;
    });
  EXPECT_GT(walked, 100U);
}

}  // namespace
}  // namespace vm::mem
