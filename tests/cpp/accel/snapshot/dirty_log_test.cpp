// Which pages were written, against writes that are known.

#include "vm/accel/hypervisor/dirty_log.hpp"

#include "guest.hpp"

namespace vm::accel {
namespace {

class DirtyLogTest : public GuestTest {
 protected:
  static std::set<std::uint64_t> set_pages(const DirtyBitmap& bitmap) {
    std::set<std::uint64_t> result;
    for (std::uint64_t i = 0; i < bitmap.pages; ++i) {
      if (bitmap.test(i)) result.insert(i);
    }
    return result;
  }
};

using Pages = std::set<std::uint64_t>;

TEST_F(DirtyLogTest, ABitmapIsClearedAsItIsRead) {
  vm_->map(*memory_, {false, true});
  const auto vcpu = vcpu_with(write_pages);
  const auto log = vm_->dirty_log();
  EXPECT_EQ(log->method(), DirtyMethod::bitmap);
  EXPECT_EQ(log->take(0).count(), 0U);
  run(*vcpu, 3);
  EXPECT_EQ(set_pages(log->take(0)), (Pages{16, 17, 18}));
  EXPECT_EQ(log->take(0).count(), 0U);
  run(*vcpu, 2);
  EXPECT_EQ(set_pages(log->take(0)), (Pages{19, 20}));
  EXPECT_THROW(log->peek(0), InvalidConfig);
  EXPECT_THROW(log->collect(), InvalidConfig);
  EXPECT_THROW(log->take(page), OutOfRange);
}

TEST_F(DirtyLogTest, ASlotThatIsNotWatchedSaysSo) {
  vm_->map(*memory_);
  EXPECT_THROW(vm_->dirty_log()->take(0), InvalidConfig);
  vm_->set_flags(0, {false, true});
  EXPECT_EQ(vm_->dirty_log()->take(0).pages, size / page);
}

TEST_F(DirtyLogTest, ManualClearsWhatItIsTold) {
  const auto log = vm_->dirty_log();
  try {
    log->use_manual();
  } catch (const NotSupported& error) {
    GTEST_SKIP() << error.what();
  }
  vm_->map(*memory_, {false, true});
  EXPECT_THROW(log->use_manual(), InvalidConfig);
  const auto vcpu = vcpu_with(write_pages, 62);
  run(*vcpu, 6);
  const Pages written = {62, 63, 64, 65, 66, 67};
  EXPECT_EQ(set_pages(log->peek(0)), written);
  EXPECT_EQ(set_pages(log->peek(0)), written);
  log->clear(0, 63, 2);
  EXPECT_EQ(set_pages(log->peek(0)), (Pages{62, 65, 66, 67}));
  log->clear(0, 67, 0);
  log->clear(0, 66, size / page - 66);
  EXPECT_EQ(set_pages(log->peek(0)), (Pages{62, 65}));
  EXPECT_THROW(log->clear(0, 255, 2), OutOfRange);
  EXPECT_THROW(log->clear(0, ~std::uint64_t{0}, 2), OutOfRange);
  EXPECT_EQ(set_pages(log->take(0)), (Pages{62, 65}));
  EXPECT_EQ(log->peek(0).count(), 0U);
  run(*vcpu, 1);
  EXPECT_EQ(set_pages(log->peek(0)), (Pages{68}));
}

TEST_F(DirtyLogTest, ARingListsWrites) {
  const auto log = vm_->dirty_log();
  EXPECT_THROW(log->use_ring(1000), VmError);  // no power of two, or no rings
  try {
    log->use_ring(1024);
  } catch (const NotSupported& error) {
    GTEST_SKIP() << error.what();
  }
  EXPECT_EQ(log->method(), DirtyMethod::ring);
  vm_->map(*memory_, {false, true});
  const auto vcpu = vcpu_with(write_pages);
  run(*vcpu, 3);
  EXPECT_EQ(log->collect(), (std::vector<std::uint64_t>{16 * page, 17 * page, 18 * page}));
  EXPECT_TRUE(log->collect().empty());
  EXPECT_EQ(log->reset(), 3U);
  run(*vcpu, 1);
  EXPECT_EQ(log->collect(vcpu->id()), (std::vector<std::uint64_t>{19 * page}));
  EXPECT_THROW(log->collect(7), OutOfRange);
  EXPECT_THROW(log->take(0), InvalidConfig);
}

TEST_F(DirtyLogTest, AFullRingStopsTheGuestAndLosesNothing) {
  const auto log = vm_->dirty_log();
  try {
    log->use_ring(256);
  } catch (const VmError& error) {
    GTEST_SKIP() << error.what();  // no rings, or a processor that needs larger ones
  }
  const std::uint64_t many = 512;
  memory_ = mem::GuestMemory::anonymous(4 * many * page);
  vm_->map(*memory_, {false, true});
  const auto vcpu = vcpu_with(write_pages);
  std::vector<std::uint64_t> pages;
  int full = 0;
  for (std::uint64_t told = 0; told < many;) {
    ASSERT_LT(full, 100);
    const Exit exit = vcpu->run();
    if (std::holds_alternative<DirtyRingFull>(exit)) {
      ++full;
      for (const std::uint64_t paddr : log->collect()) pages.push_back(paddr / page);
      log->reset();
    } else {
      ASSERT_TRUE(std::holds_alternative<IoOut>(exit)) << exit_name(exit);
      ++told;
    }
  }
  for (const std::uint64_t paddr : log->collect()) pages.push_back(paddr / page);
  EXPECT_GT(full, 0);
  ASSERT_EQ(pages.size(), many);
  for (std::uint64_t i = 0; i < many; ++i) ASSERT_EQ(pages[i], 16 + i);
}

TEST_F(DirtyLogTest, ARingIsChosenBeforeThereAreVcpus) {
  vm_->create_vcpu();
  EXPECT_THROW(vm_->dirty_log()->use_ring(1024), InvalidConfig);
}

TEST_F(DirtyLogTest, MarksAreChecked) {
  vm_->map(*memory_);
  EXPECT_THROW(vm_->mark_dirty(size - 1, 2), OutOfRange);
  EXPECT_THROW(vm_->mark_dirty(1, ~std::uint64_t{0}), OutOfRange);
  vm_->mark_dirty(size - 1, 1);
  EXPECT_THROW(vm_->write(size - 1, "ab", 2), OutOfRange);
  vm_->write(size - 1, "a", 1);
  EXPECT_EQ(bytes_of(*vm_).back(), 'a');
  const auto log = vm_->dirty_log();
  vm_->close();
  EXPECT_THROW(vm_->dirty_log(), ClosedError);
  EXPECT_EQ(log->method(), DirtyMethod::bitmap);  // who holds it may use it
}

TEST(PageSet, GivesRunsInOrder) {
  PageSet set(10'000);
  for (const std::uint64_t p : {4096, 5, 4095, 63, 64, 9'999, 4097, 5}) set.add(p);
  std::vector<std::uint64_t> bitmap((10'000 + 63) / 64);
  bitmap[2] = ~std::uint64_t{0};
  set.add(bitmap);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> runs;
  const auto note = [&](std::uint64_t first, std::uint64_t count) { runs.push_back({first, count}); };
  set.drain(note);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> expected = {
      {5, 1}, {63, 2}, {128, 64}, {4095, 3}, {9'999, 1}};
  EXPECT_EQ(runs, expected);
  runs.clear();
  set.drain(note);
  EXPECT_TRUE(runs.empty());
}

}  // namespace
}  // namespace vm::accel
