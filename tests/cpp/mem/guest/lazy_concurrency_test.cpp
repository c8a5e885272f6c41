// Many threads touch, read, discard and track lazy memory at once; run under ThreadSanitizer.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "lazy_support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/guest/lazy_memory.hpp"

namespace vm::mem {
namespace {

using namespace test;

constexpr unsigned touchers = 4;

template <class Work>
void in_threads(unsigned count, Work work) {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < count; ++i) threads.emplace_back([&work, i] { work(i); });
  for (std::thread& thread : threads) thread.join();
}

/// Cheap to compute under a sanitizer: each page holds its number.
void fill_with_numbers(std::uint64_t offset, std::byte* out, std::size_t size) {
  for (std::size_t done = 0; done + 8 <= size; done += page) {
    const std::uint64_t number = (offset + done) / page + 1;
    std::memset(out + done, 0x5A, page);
    std::memcpy(out + done, &number, sizeof number);
  }
}

std::uint64_t number_at(const HostView& view, std::uint64_t index) {
  return *reinterpret_cast<const volatile std::uint64_t*>(view.host + index * page);
}

TEST(LazyConcurrency, AHundredThousandFaultsFromFourThreads) {
  REQUIRE_LAZY_MEMORY();
  constexpr std::uint64_t pages = 100000;
  for (const unsigned handlers : {1U, 3U}) {
    std::vector<std::atomic<unsigned>> asked(pages);
    LazyOptions options;
    options.threads = handlers;
    LazyMemory lazy(pages * page, function_source([&](std::uint64_t offset, std::byte* out, std::size_t size) {
                      asked[offset / page].fetch_add(1);
                      fill_with_numbers(offset, out, size);
                    }),
                    options);
    const HostView view = lazy.memory()->view(0, pages * page);
    std::atomic<std::uint64_t> wrong{0};
    in_threads(touchers, [&](unsigned self) {
      // Two meet at every page, two go their own ways.
      for (std::uint64_t i = 0; i < pages; ++i) {
        const std::uint64_t index = self < 2 ? i : (i * 7919 + self) % pages;
        if (number_at(view, index) != index + 1) wrong.fetch_add(1);
      }
    });
    EXPECT_EQ(wrong.load(), 0U);
    std::uint64_t twice = 0;
    for (const auto& times : asked) twice += times.load() == 1 ? 0U : 1U;
    EXPECT_EQ(twice, 0U);
    const LazyStats stats = lazy.stats();
    EXPECT_EQ(stats.pages_filled, pages);
    EXPECT_EQ(stats.faults - stats.coalesced, pages);
    EXPECT_EQ(lazy.resident(), pages);
  }
}

TEST(LazyConcurrency, TouchersReadersAndDiscardersSeeOnlyTheSource) {
  REQUIRE_LAZY_MEMORY();
  constexpr std::uint64_t pages = 256;
  LazyOptions options;
  options.threads = 2;
  options.prefetch_pages = 3;
  LazyMemory lazy(pages * page, function_source(fill_with_numbers), options);
  const auto memory = lazy.memory();
  const HostView view = memory->view(0, pages * page);
  std::atomic<std::uint64_t> wrong{0};
  in_threads(touchers + 1, [&](unsigned self) {
    std::mt19937_64 random(self);
    for (int i = 0; i < 4000; ++i) {
      const std::uint64_t index = random() % pages;
      std::uint64_t number = index + 1;
      if (self == 0) {
        lazy.discard(index * page, std::min<std::uint64_t>(1 + random() % 8, pages - index) * page);
      } else if (self == 1) {
        memory->read(index * page, &number, sizeof number);
      } else {
        number = number_at(view, index);
      }
      if (number != index + 1) wrong.fetch_add(1);
    }
  });
  EXPECT_EQ(wrong.load(), 0U);
  const LazyStats stats = lazy.stats();
  EXPECT_EQ(stats.pages_filled - stats.discarded_pages, lazy.resident());
}

TEST(LazyConcurrency, BackgroundCompletionMeetsTouchers) {
  REQUIRE_LAZY_MEMORY();
  constexpr std::uint64_t pages = 4096;
  LazyMemory lazy(pages * page, function_source(fill_with_numbers));
  const HostView view = lazy.memory()->view(0, pages * page);
  std::atomic<std::uint64_t> wrong{0};
  in_threads(touchers, [&](unsigned self) {
    if (self == 0) return lazy.populate_all();
    std::mt19937_64 random(self);
    for (int i = 0; i < 4000; ++i) {
      const std::uint64_t index = random() % pages;
      if (number_at(view, index) != index + 1) wrong.fetch_add(1);
    }
  });
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_EQ(lazy.stats().pages_filled, pages);
}

TEST(LazyConcurrency, NoWriteIsLostBetweenTwoRounds) {
  REQUIRE_LAZY_MEMORY();
  constexpr std::uint64_t pages = 64;
  for (const WriteTracking tracking : {WriteTracking::synchronous, WriteTracking::asynchronous}) {
    LazyOptions options;
    options.tracking = tracking;
    std::unique_ptr<LazyMemory> lazy;
    try {
      lazy = std::make_unique<LazyMemory>(pages * page, function_source(fill_with_numbers), options);
    } catch (const NotSupported& error) {
      GTEST_SKIP() << error.what();
    }
    const HostView view = lazy->memory()->view(0, pages * page);
    // A copy that is brought up to date from dirty pages only must end equal to the memory.
    std::vector<std::uint64_t> copy(pages, 0);
    const auto word = [&](std::uint64_t index) {
      return reinterpret_cast<std::atomic<std::uint64_t>*>(view.host + index * page);
    };
    lazy->track_writes();
    for (std::uint64_t index = 0; index < pages; ++index) copy[index] = word(index)->load();
    std::atomic<unsigned> writing{2};
    const auto update = [&] {
      for (const std::uint64_t index : lazy->reset_dirty()) copy[index] = word(index)->load();
    };
    in_threads(3, [&](unsigned self) {
      if (self == 2) {
        while (writing.load() != 0) update();
        return;
      }
      std::mt19937_64 random(self);
      for (int i = 0; i < 20000; ++i) word(random() % pages)->fetch_add(1);
      writing.fetch_sub(1);
    });
    update();
    for (std::uint64_t index = 0; index < pages; ++index) EXPECT_EQ(copy[index], word(index)->load()) << index;
  }
}

TEST(LazyConcurrency, ClosingWhileOthersTouch) {
  REQUIRE_LAZY_MEMORY();
  for (int round = 0; round < 20; ++round) {
    LazyMemory lazy(64 * page, function_source(fill_with_numbers));
    std::array<HostView, touchers> views;
    for (HostView& view : views) view = lazy.memory()->view(0, 64 * page);
    std::atomic<std::uint64_t> wrong{0};
    in_threads(touchers, [&](unsigned self) {
      HostView view = std::move(views[self]);
      if (self == 0) lazy.close();
      for (std::uint64_t index = 0; index < 64; ++index) {
        if (number_at(view, index) != index + 1) wrong.fetch_add(1);
      }
    });
    EXPECT_EQ(wrong.load(), 0U);
    EXPECT_TRUE(lazy.closed());
  }
}

}  // namespace
}  // namespace vm::mem
