// Translations beside changes of the tables: after a change has returned nobody sees what was before, and while it runs
// nobody sees what never was.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "support.hpp"

namespace vm::mem {
namespace {

constexpr Access read_write = Access::read | Access::write;

class MmuConcurrencyTest : public testing::TestWithParam<NamedConfig> {};

// Page n is mapped to frame n of one of two arrays, or not at all; version v of page n is in the array v % 2. The
// tables of neighbouring pages come and go, so that frames of tables are used again and again.
TEST_P(MmuConcurrencyTest, RemappingIsSeenAtOnceAndNothingIsInvented) {
  constexpr std::uint64_t spacing = 2 * mib;  // a table each
  constexpr std::uint64_t pages = 6;
  Mmu mmu(GuestMemory::anonymous(16 * mib), long_mode(), GetParam().config);
  std::atomic<std::uint64_t> versions[pages];
  for (auto& version : versions) version = 0;
  std::atomic<bool> stop{false};

  const auto reader = [&](unsigned seed) {
    std::uint64_t n = seed;
    while (!stop) {
      n = (n * 5 + 1) % pages;
      const std::uint64_t before = versions[n].load(std::memory_order_seq_cst);
      const auto t = mmu.try_translate(GuestVirtual(0x4000'0000 + n * spacing));
      const std::uint64_t after = versions[n].load(std::memory_order_seq_cst);
      const std::uint64_t even = 0x10'0000 + n * 4096, odd = 0x20'0000 + n * 4096;
      ASSERT_TRUE(!t.ok() || t.paddr == even || t.paddr == odd) << std::hex << t.paddr << " is no frame of page " << n;
      // Versions count changes begun and ended: even numbers while nothing happens, then 0 mod 4 is unmapped.
      if (before == after && before % 2 == 0) {
        const std::uint64_t state = before / 2 % 4;
        ASSERT_EQ(t.ok(), state % 2 == 1) << state;
        ASSERT_TRUE(!t.ok() || t.paddr == (state == 1 ? even : odd)) << std::hex << t.paddr;
      }
    }
  };
  std::thread first(reader, 1U), second(reader, 2U);
  for (std::uint64_t step = 0; step < 60'000; ++step) {
    const std::uint64_t n = step * 7 % pages;
    const std::uint64_t vaddr = 0x4000'0000 + n * spacing;
    const std::uint64_t state = versions[n] / 2 % 4;
    ++versions[n];
    if (state == 0) mmu.map_page(GuestVirtual(vaddr), GuestPhysical(0x10'0000 + n * 4096), read_write);
    if (state == 2) mmu.map_page(GuestVirtual(vaddr), GuestPhysical(0x20'0000 + n * 4096), read_write);
    if (state % 2 == 1) mmu.unmap_page(GuestVirtual(vaddr));
    ++versions[n];
  }
  stop = true;
  first.join();
  second.join();
}

// The same for batches, whose walks are not looked at one by one.
TEST_P(MmuConcurrencyTest, BatchesBesideChangesInventNothing) {
  constexpr std::uint64_t spacing = 2 * mib;
  constexpr std::uint64_t pages = 6;
  Mmu mmu(GuestMemory::anonymous(16 * mib), long_mode(), GetParam().config);
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    std::vector<std::uint64_t> vaddr(6000), paddr(vaddr.size());
    std::vector<paging::PackedInfo> info(vaddr.size());
    for (std::size_t i = 0; i < vaddr.size(); ++i) vaddr[i] = 0x4000'0000 + i % pages * spacing;
    while (!stop) {
      mmu.translate(vaddr.data(), vaddr.size(), paddr.data(), info.data());
      for (std::size_t i = 0; i < vaddr.size(); ++i)
        ASSERT_TRUE(paging::is_fault(info[i]) || paddr[i] == 0x10'0000 + i % pages * 4096) << std::hex << paddr[i];
    }
  });
  for (std::uint64_t step = 0; step < 30'000; ++step) {
    const std::uint64_t n = step * 5 % pages;
    if (!mmu.try_translate(GuestVirtual(0x4000'0000 + n * spacing), Access::none).ok())
      mmu.map_page(GuestVirtual(0x4000'0000 + n * spacing), GuestPhysical(0x10'0000 + n * 4096), read_write);
    if (step % 3 == 0) continue;
    for (std::uint64_t m = 0; m < pages; ++m)
      if (mmu.try_translate(GuestVirtual(0x4000'0000 + m * spacing), Access::none).ok())
        mmu.unmap_page(GuestVirtual(0x4000'0000 + m * spacing));
  }
  stop = true;
  reader.join();
}

class MmuArrayConcurrencyTest : public testing::TestWithParam<NamedConfig> {};

// Batches that begin after a change has returned see it, also where they find what earlier ones left.
TEST_P(MmuArrayConcurrencyTest, BatchesSeeWhatChangedBefore) {
  constexpr std::uint64_t pages = 6, base = 0x4000'0000;
  Mmu mmu(GuestMemory::anonymous(16 * mib), long_mode(), GetParam().config);
  std::atomic<std::uint64_t> versions[pages];
  for (auto& version : versions) version = 0;
  std::atomic<bool> stop{false};
  std::atomic<unsigned> batches{0};
  const auto reader = [&] {
    std::vector<std::uint64_t> vaddr(BatchGuide::smallest_measured), paddr(vaddr.size());
    std::vector<paging::PackedInfo> info(vaddr.size());
    for (std::size_t i = 0; i < vaddr.size(); ++i) vaddr[i] = base + i % pages * 4096;
    while (!stop) {
      std::uint64_t before[pages];
      for (std::size_t n = 0; n < pages; ++n) before[n] = versions[n].load(std::memory_order_seq_cst);
      mmu.translate(vaddr.data(), vaddr.size(), paddr.data(), info.data());
      for (std::size_t n = 0; n < pages; ++n) {
        const std::uint64_t even = 0x10'0000 + n * 4096, odd = 0x20'0000 + n * 4096;
        const bool quiet = versions[n].load(std::memory_order_seq_cst) == before[n] && before[n] % 2 == 0;
        const std::uint64_t state = before[n] / 2 % 4;
        const std::uint64_t right = state % 2 == 0 ? paging::no_address : state == 1 ? even : odd;
        for (std::size_t i = n; i < vaddr.size(); i += pages) {
          ASSERT_TRUE(paddr[i] == even || paddr[i] == odd || paging::is_fault(info[i])) << std::hex << paddr[i];
          ASSERT_TRUE(!quiet || paddr[i] == right) << std::hex << paddr[i] << " in state " << state;
        }
      }
      ++batches;
    }
  };
  std::thread first(reader), second(reader);
  for (std::uint64_t step = 0; step < 2400; ++step) {
    const std::uint64_t n = step * 5 % pages, vaddr = base + n * 4096;
    const std::uint64_t state = versions[n] / 2 % 4;
    ++versions[n];
    if (state % 2 == 1)
      mmu.unmap_page(GuestVirtual(vaddr));
    else
      mmu.map_page(GuestVirtual(vaddr), GuestPhysical((state == 0 ? 0x10'0000 : 0x20'0000) + n * 4096), read_write);
    ++versions[n];
    if (step % 64 == 0) mmu.flush({static_cast<tlb::FlushScope>(step / 64 % 5), vaddr, 4096, {}});
    // Now and then nothing changes for a whole batch.
    while (batches < step / 16) std::this_thread::yield();
  }
  stop = true;
  first.join();
  second.join();
}

TEST_P(MmuConcurrencyTest, WordsAreAtomic) {
  Mmu mmu(GuestMemory::anonymous(mib), long_mode(), GetParam().config);
  mmu.map_page(GuestVirtual(0x7000), GuestPhysical(0x5000), read_write);
  constexpr std::uint64_t rounds = 5000;
  const auto adder = [&] {
    for (std::uint64_t i = 0; i < rounds; ++i) {
      auto value = mmu.load<std::uint64_t>(GuestVirtual(0x7008));
      while (!mmu.compare_exchange<std::uint64_t>(GuestVirtual(0x7008), value, value + 1)) {
      }
    }
  };
  std::thread first(adder), second(adder);
  first.join();
  second.join();
  EXPECT_EQ(mmu.load<std::uint64_t>(GuestVirtual(0x7008)), 2 * rounds);
}

// A map that finds its last page taken has written the others for a moment.
TEST_P(MmuConcurrencyTest, AFailedChangeLeavesNothingInTheTlb) {
  constexpr std::uint64_t base = 0x4000'0000, pages = 256;
  Mmu mmu(GuestMemory::anonymous(16 * mib), long_mode(), GetParam().config);
  mmu.map_page(GuestVirtual(base + (pages - 1) * 4096), GuestPhysical(0x5000), read_write);
  std::atomic<bool> stop{false};
  std::thread reader([&] {
    while (!stop) mmu.try_translate(GuestVirtual(base));
  });
  bool stale = false;
  for (int i = 0; i < 500 && !stale; ++i) {
    EXPECT_THROW(mmu.map({base, 0x10'0000, pages * 4096, read_write, false, std::nullopt}), InvalidConfig);
    stale = mmu.try_translate(GuestVirtual(base)).ok();
  }
  stop = true;
  reader.join();
  EXPECT_FALSE(stale);
}

// The frame of the table below the first address is freed and becomes the one below the second, where another index is
// in use. A batch that goes on reading it must not answer with what the second address is mapped to.
TEST_P(MmuConcurrencyTest, BatchesInventNothing) {
  constexpr std::uint64_t first = 0x4000'0000, never = first + 0x5000, second = 0x4020'5000;
  Mmu mmu(GuestMemory::anonymous(16 * mib), long_mode(), GetParam().config);
  std::atomic<bool> stop{false};
  bool invented = false;
  std::thread reader([&] {
    std::vector<std::uint64_t> vaddr(20'000), paddr(vaddr.size());
    std::vector<paging::PackedInfo> info(vaddr.size());
    for (std::size_t i = 0; i < vaddr.size(); ++i) vaddr[i] = i % 2 == 0 ? first : never;
    while (!stop) {
      mmu.translate(vaddr.data(), vaddr.size(), paddr.data(), info.data());
      for (std::size_t i = 0; i < vaddr.size(); ++i)
        invented |= !paging::is_fault(info[i]) && (vaddr[i] == never || paddr[i] != 0x5000);
    }
  });
  for (int i = 0; i < 1500; ++i) {
    mmu.map_page(GuestVirtual(first), GuestPhysical(0x5000), read_write);
    for (int wait = 0; wait < 50; ++wait) mmu.try_translate(GuestVirtual(first));
    mmu.unmap_page(GuestVirtual(first));
    mmu.map_page(GuestVirtual(second), GuestPhysical(0x6000), read_write);
    for (int wait = 0; wait < 50; ++wait) mmu.try_translate(GuestVirtual(second));
    mmu.unmap_page(GuestVirtual(second));
  }
  stop = true;
  reader.join();
  EXPECT_FALSE(invented);
}

std::vector<NamedConfig> configs_through_tlb() {
  std::vector<NamedConfig> configs;
  for (NamedConfig& named : mmu_configs())
    if (named.config.batches == BatchWay::through_tlb) configs.push_back(std::move(named));
  return configs;
}
INSTANTIATE_TEST_SUITE_P(Configs, MmuArrayConcurrencyTest, testing::ValuesIn(configs_through_tlb()),
                         [](const auto& i) { return i.param.name; });
INSTANTIATE_TEST_SUITE_P(Configs, MmuConcurrencyTest, testing::ValuesIn(mmu_configs()),
                         [](const auto& i) { return i.param.name; });

}  // namespace
}  // namespace vm::mem
