// Translations while the tables change: an address that is mapped throughout translates the same throughout.

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "support.hpp"

namespace vm::mem::paging {
namespace {

using namespace test;

class ConcurrencyTest : public testing::TestWithParam<Layout> {};

INSTANTIATE_TEST_SUITE_P(Formats, ConcurrencyTest, testing::ValuesIn(layouts()),
                         [](const auto& layout) { return layout.param.name; });

TEST_P(ConcurrencyTest, WalksSeeWholeTables) {
  const Layout& layout = GetParam();
  const Machine m(std::uint64_t{4} << 20);
  AddressSpace space(m.memory, layout.config);
  const std::uint64_t page = layout.page_sizes[0];
  const std::uint64_t large = layout.page_sizes[1];
  space.map({layout.base, large, large, rw, true, {}});

  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> walks{0};
  std::thread reader([&] {
    for (std::uint64_t i = 0; !done.load(std::memory_order_acquire); ++i) {
      const std::uint64_t offset = i * 4099 % large;
      const Translation t = space.try_translate(GuestVirtual{layout.base + offset}, Access::read, user);
      if (!t.ok() || t.paddr != large + offset) wrong.fetch_add(1, std::memory_order_relaxed);
      walks.fetch_add(1, std::memory_order_relaxed);
    }
  });
  // The page is split under the reader; beside it tables come and go.
  for (std::uint64_t round = 0; round < 50 || walks.load(std::memory_order_relaxed) < 1000; ++round) {
    const std::uint64_t part = layout.base + round % 8 * page;
    space.protect(part, page, round % 2 == 0 ? r : rw, {});
    space.map({layout.base + large + part % large, 0, 2 * page, rw, true, {}});
    space.unmap(layout.base + large, large + 2 * page);
  }
  done.store(true, std::memory_order_release);  // pairs with the load in the reader
  reader.join();
  EXPECT_EQ(wrong.load(), 0U);
}

}  // namespace
}  // namespace vm::mem::paging
