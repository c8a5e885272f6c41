// Blocks of pages: what was asked for, what the kernel says was got, and what is refused.

#include "vm/mem/pages/page_block.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "mem/pages/page_map.hpp"
#include "mem/pages/prefault.hpp"
#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem {
namespace {

using testing::rights_of;
using testing::signal_of_reading;

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
constexpr std::uint64_t huge = 2 * mib;
const std::uint64_t page = host_page_size();

PageOptions with(HugePages kind, std::uint64_t alignment = 1, std::uint64_t guard = 0) {
  PageOptions options;
  options.huge_pages = kind;
  options.alignment = alignment;
  options.guard = guard;
  return options;
}

bool transparent_possible() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string choices;
  return std::getline(file, choices) && choices.find("[never]") == std::string::npos;
}

std::uint64_t address_of(const PageBlock& block) { return reinterpret_cast<std::uintptr_t>(block.data()); }

TEST(PageBlock, AlignmentGuardsAndZeros) {
  for (const std::uint64_t alignment : {std::uint64_t{1}, std::uint64_t{64}, page, 16 * page, huge, 64 * mib}) {
    for (const std::uint64_t guard : {std::uint64_t{0}, std::uint64_t{1}, 5 * page}) {
      const PageBlock block(3 * page + 1, with(HugePages::none, alignment, guard));
      EXPECT_EQ(block.size(), 3 * page + 1);
      EXPECT_EQ(block.capacity(), 4 * page);
      EXPECT_EQ(block.alignment(), std::max(alignment, page));
      EXPECT_EQ(address_of(block) % block.alignment(), 0U);
      EXPECT_TRUE(
          std::all_of(block.data(), block.data() + block.capacity(), [](std::byte b) { return b == std::byte{}; }));
      std::memset(block.data(), 0xA5, block.capacity());
      EXPECT_EQ(rights_of(block.data()), "rw-p");
      if (guard == 0) continue;
      EXPECT_EQ(block.guard(), guard == 1 ? page : guard);
      for (const std::byte* byte : {block.data() - 1, block.data() - block.guard(), block.data() + block.capacity(),
                                    block.data() + block.capacity() + block.guard() - 1}) {
        EXPECT_EQ(rights_of(byte), "---p");
      }
    }
  }
}

TEST(PageBlock, AllThatCanBeIsLockedAroundPagesWithoutRights) {
  PageBlock block(8 * page, with(HugePages::none));
  block.protect(3 * page, page, Access::none);
  block.lock();
  EXPECT_EQ(block.resident(), 7 * page);
  EXPECT_EQ(block.census().locked, 8 * page);
  block.protect(3 * page, page, Access::read | Access::write);
  block.data()[3 * page] = std::byte{1};
  EXPECT_EQ(block.resident(), 8 * page);
  block.unlock();
  EXPECT_EQ(block.census().locked, 0U);
}

TEST(PageBlock, AChildWithoutThePagesUnmapsNobodyElses) {
  auto block = std::make_unique<PageBlock>(page, with(HugePages::none));
  block->advise(Advice::dont_fork);
  const pid_t child = ::fork();
  if (child == 0) {
    std::byte* const place = block->data();
    void* const others = ::mmap(place, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    block.reset();
    ::_exit(others == place && rights_of(place) == "rw-p" ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  const std::byte* const place = block->data();
  block.reset();
  EXPECT_EQ(rights_of(place), "");
}

TEST(PageBlock, ATouchOfAGuardKills) {
  const PageBlock block(page, with(HugePages::none, 1, page));
  EXPECT_EQ(signal_of_reading(block.data()), 0);
  EXPECT_EQ(signal_of_reading(block.data() - 1), SIGSEGV);
  EXPECT_EQ(signal_of_reading(block.data() + block.capacity()), SIGSEGV);
}

TEST(PageBlock, NothingIsLeftMapped) {
  const std::byte* data = nullptr;
  {
    const PageBlock block(page, with(HugePages::none, huge, page));
    data = block.data();
  }
  EXPECT_EQ(rights_of(data), "");
  EXPECT_EQ(rights_of(data - 1), "");
}

TEST(PageBlock, WhatMakesNoSenseIsRefused) {
  EXPECT_THROW(PageBlock(0), InvalidConfig);
  EXPECT_THROW(PageBlock(page, with(HugePages::none, 3)), InvalidConfig);
  EXPECT_THROW(PageBlock(page, with(HugePages::none, 0)), InvalidConfig);
  EXPECT_THROW(PageBlock(page, with(HugePages::none, std::uint64_t{1} << 50)), InvalidConfig);
  EXPECT_THROW(PageBlock(page, with(HugePages::none, 1, UINT64_MAX)), InvalidConfig);
  EXPECT_THROW(PageBlock(page, with(HugePages::size_2m, 1, page)), InvalidConfig);
  EXPECT_THROW(PageBlock(page, with(HugePages::size_2m, 4 * mib)), InvalidConfig);
  EXPECT_THROW(PageBlock(UINT64_MAX), ResourceExhausted);
  EXPECT_THROW(PageBlock(std::uint64_t{1} << 61), ResourceExhausted);
}

TEST(PageBlock, WhatWasGotIsWhatTheKernelSays) {
  if (!transparent_possible()) GTEST_SKIP() << "transparent huge pages are switched off";
  PageBlock block(8 * mib, with(HugePages::transparent, 1, page));  // guards: its mapping is this block and no more
  EXPECT_EQ(block.huge_pages(), HugePages::transparent);
  EXPECT_EQ(address_of(block) % huge, 0U);
  PageCensus census = block.census();
  EXPECT_EQ(census.mapped, 8 * mib);
  EXPECT_EQ(census.resident, 0U);
  EXPECT_EQ(census.huge, 0U);  // wanted, but nothing is there yet
  EXPECT_EQ(census.page_size, page);
  block.prefault();
  census = block.census();
  EXPECT_EQ(census.resident, 8 * mib);
  EXPECT_EQ(block.resident(), 8 * mib);
  // How many the kernel found is its business; smaps and PAGEMAP_SCAN have to agree.
  const auto start = static_cast<std::uintptr_t>(address_of(block));
  bool certain = true;
  const PageTally tally = tally_areas(mapped_areas(start, start + 8 * mib), start, start + 8 * mib, certain);
  EXPECT_TRUE(certain);
  EXPECT_EQ(tally.huge, census.huge);
  EXPECT_EQ(tally.resident, census.resident);
  block.advise(Advice::no_huge_pages);
  block.purge();
  block.prefault();
  EXPECT_EQ(block.census().huge, 0U);
  EXPECT_EQ(block.census().resident, 8 * mib);
}

TEST(PageBlock, ACensusOfAPart) {
  const PageBlock block(16 * page, with(HugePages::none, 1, page));
  std::memset(block.data() + 2 * page, 1, 3 * page);
  const PageCensus part = count_pages(block.data() + page + 1, 2 * page);  // touches three pages
  EXPECT_EQ(part.mapped, 3 * page);
  EXPECT_EQ(part.resident, 2 * page);
  EXPECT_EQ(count_pages(block.data(), 0).mapped, 0U);
  // Two mappings: the guard has no pages.
  const PageCensus both = count_pages(block.data() - page, 4 * page);
  EXPECT_EQ(both.mapped, 4 * page);
  EXPECT_EQ(both.resident, page);
}

TEST(PageBlock, WithoutPagemapScanOnlyWhatIsCertainCounts) {
  const PageBlock block(8 * page, with(HugePages::none, 1, page));
  std::memset(block.data(), 1, block.capacity());
  const auto start = static_cast<std::uintptr_t>(address_of(block));
  const auto tally = [start](std::uint64_t resident, std::uint64_t in_huge_pages, std::uint64_t asked, bool& certain) {
    MappedArea area;
    area.start = start;
    area.end = start + 8 * page;
    area.resident = resident;
    area.huge = in_huge_pages;
    return tally_areas({area}, start, start + asked, certain);
  };
  bool certain = true;
  EXPECT_EQ(tally(8 * page, 4 * page, 8 * page, certain).huge, 4 * page);  // all of the mapping
  EXPECT_EQ(tally(8 * page, 8 * page, 2 * page, certain).huge, 2 * page);  // a part of one that is all huge
  EXPECT_EQ(tally(8 * page, 0, 2 * page, certain).huge, 0U);
  EXPECT_TRUE(certain);
  EXPECT_EQ(tally(8 * page, 4 * page, 2 * page, certain).huge, 0U);  // who knows
  EXPECT_FALSE(certain);
}

TEST(PageBlock, ReservedHugePagesOrTheReasonWhyNot) {
  for (const HugePages kind : {HugePages::size_2m, HugePages::size_1g}) {
    PageOptions options = with(kind);
    try {
      PageBlock block(page, options);
      EXPECT_EQ(block.capacity(), block.page_size());
      EXPECT_EQ(block.census().page_size, block.page_size());
      block.prefault();
      EXPECT_EQ(block.census().huge, block.capacity());
    } catch (const VmError& error) {
      options.fallback = true;
      const PageBlock block(4 * mib, options);
      EXPECT_NE(block.refused().find("huge pages"), std::string::npos) << block.refused();
      EXPECT_EQ(block.page_size(), page);
      EXPECT_NE(block.huge_pages(), kind);
      EXPECT_NE(std::string(error.what()).find("huge pages"), std::string::npos);
    }
  }
  EXPECT_EQ(PageBlock(page).refused(), "");
}

TEST(PageBlock, PrefaultChangesNothing) {
  PageBlock block(100 * page + 1, with(HugePages::none, 1, page));
  block.data()[3 * page] = std::byte{7};
  block.prefault(2 * page, 5 * page, 1);
  EXPECT_EQ(block.resident(), 5 * page);
  block.prefault(90 * page, 10 * page + 1);  // to the end of the block, which is no whole page
  EXPECT_EQ(block.resident(), 16 * page);
  block.prefault(0, 0);
  block.prefault();
  EXPECT_EQ(block.resident(), block.capacity());
  EXPECT_EQ(block.data()[3 * page], std::byte{7});
  EXPECT_THROW(block.prefault(1, page), InvalidConfig);
  EXPECT_THROW(block.prefault(0, page + 1), InvalidConfig);
  EXPECT_THROW(block.prefault(0, block.capacity() + page), OutOfRange);
  EXPECT_THROW(block.prefault(page, UINT64_MAX), OutOfRange);
  EXPECT_THROW(block.prefault(0, page, 5000), InvalidConfig);
}

TEST(PageBlock, TouchingIsPrefaultingToo) {
  const PageBlock block(16 * page, with(HugePages::none, 1, page));
  block.data()[page] = std::byte{9};
  touch_pages(block.data(), 8 * page);
  EXPECT_EQ(block.resident(), 8 * page);
  EXPECT_EQ(block.data()[page], std::byte{9});
  EXPECT_EQ(prefault_threads(mib, 64), 1U);
  EXPECT_EQ(prefault_threads(64 * mib, 64), 4U);
  EXPECT_EQ(prefault_threads(64 * mib, 2), 2U);
  EXPECT_EQ(prefault_threads(1024 * mib, 0), 1U);
  EXPECT_EQ(prefault_threads(std::uint64_t{1} << 40, 256), 16U);
}

TEST(PageBlock, LockAndUnlock) {
  PageBlock block(8 * page, with(HugePages::none, 1, page));
  block.lock();
  EXPECT_EQ(block.census().locked, 8 * page);
  EXPECT_EQ(block.resident(), 8 * page);
  EXPECT_THROW(block.purge(), AccessViolation);
  block.unlock();
  EXPECT_EQ(block.census().locked, 0U);
  PageBlock lazy(8 * page, with(HugePages::none, 1, page));
  lazy.lock(LockMode::on_fault);
  EXPECT_EQ(lazy.resident(), 0U);
  EXPECT_EQ(lazy.census().locked, 8 * page);
  lazy.data()[0] = std::byte{1};
  EXPECT_EQ(lazy.resident(), page);
}

TEST(PageBlock, ALimitOnLocksIsNamed) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none = {0, 0};
    // A privileged process may lock what it likes; only an ordinary one has a limit.
    if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (::geteuid() == 0 && ::setuid(65534) != 0)) ::_exit(77);
    int result = 1;
    try {
      PageBlock block(8 * page);
      block.lock();
    } catch (const ResourceExhausted& error) {
      result = std::string(error.what()).find("0 bytes") == std::string::npos ? 2 : 0;
    }
    ::_exit(result);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "this process cannot become an ordinary one";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(PageBlock, PurgedPagesAreGone) {
  PageBlock block(8 * page + 1, with(HugePages::none, 1, page));
  std::memset(block.data(), 0xA5, block.capacity());
  block.purge(page, 2 * page);
  EXPECT_EQ(block.resident(), 7 * page);
  EXPECT_EQ(block.data()[page], std::byte{0});
  EXPECT_EQ(block.data()[3 * page], std::byte{0xA5});
  block.purge(4 * page, page, PurgeMode::lazily);
  const std::byte seen = block.data()[4 * page];
  EXPECT_TRUE(seen == std::byte{0xA5} || seen == std::byte{0});
  block.data()[4 * page] = std::byte{1};  // written again: it stays
  EXPECT_EQ(block.data()[4 * page], std::byte{1});
  block.purge();
  EXPECT_EQ(block.resident(), 0U);
  EXPECT_THROW(block.purge(0, 1), InvalidConfig);
  EXPECT_THROW(block.purge(16 * page, page), OutOfRange);
}

TEST(PageBlock, EveryAdviceIsTakenOrRefusedWithAName) {
  for (int number = 0; number <= static_cast<int>(Advice::unmergeable); ++number) {
    const auto advice = static_cast<Advice>(number);
    PageBlock block(4 * mib);
    std::memset(block.data(), 1, page);
    EXPECT_STRNE(to_string(advice), "");
    try {
      block.advise(advice);
      block.advise(advice, 0, page);
    } catch (const NotSupported& error) {
      EXPECT_NE(std::string(error.what()).find(to_string(advice)), std::string::npos);
    } catch (const ResourceExhausted&) {
      EXPECT_EQ(advice, Advice::collapse);
    }
  }
  PageBlock block(2 * page);
  EXPECT_THROW(block.advise(Advice::cold, 1, 1), InvalidConfig);
  EXPECT_THROW(block.advise(Advice::cold, 0, 3 * page), OutOfRange);
}

TEST(PageBlock, AWipedBlockIsZerosInAChild) {
  PageBlock block(page);
  block.data()[0] = std::byte{42};
  block.advise(Advice::wipe_on_fork);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(static_cast<int>(block.data()[0]));
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(block.data()[0], std::byte{42});
}

}  // namespace
}  // namespace vm::mem
