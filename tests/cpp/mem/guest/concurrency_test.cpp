// Readers hold tables and views while other threads add regions and close the memory; run under ThreadSanitizer.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::mem {
namespace {

constexpr std::uint64_t page = 4096;
constexpr int reader_count = 3;
constexpr int region_count = 200;

/// Touches every region of the table it gets, until the memory is closed.
void read_until_closed(const GuestMemory& memory, std::atomic<int>& started, std::atomic<std::uint64_t>& bad) {
  std::uint64_t generation = UINT64_MAX;
  bool counted = false;
  try {
    while (true) {
      if (memory.generation() == generation) std::this_thread::yield();
      generation = memory.generation();
      const auto table = memory.table();
      for (const Region& region : table->regions()) {
        if (*table->at(region.base, region.size) != std::byte{0}) bad.fetch_add(1, std::memory_order_relaxed);
      }
      if (!counted) started.fetch_add(1, std::memory_order_relaxed);
      counted = true;
    }
  } catch (const ClosedError&) {
  }
}

TEST(GuestMemoryConcurrency, ReadersAreUndisturbedByAddAndClose) {
  const auto memory = GuestMemory::anonymous(page);
  std::atomic<int> started{0};
  std::atomic<std::uint64_t> bad{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < reader_count; ++i) {
    threads.emplace_back([&] { read_until_closed(*memory, started, bad); });
  }
  while (started.load() < reader_count) std::this_thread::yield();
  // Two writers: both must find all their regions in the end.
  for (int writer = 0; writer < 2; ++writer) {
    threads.emplace_back([&memory, writer] {
      for (int i = 0; i < region_count; ++i) {
        memory->add(*GuestMemory::anonymous(page, page * static_cast<std::uint64_t>(2 * (2 * i + writer) + 2)));
      }
    });
  }
  threads[reader_count].join();
  threads[reader_count + 1].join();
  EXPECT_EQ(memory->table()->regions().size(), 1U + 2 * region_count);
  memory->close();
  for (int i = 0; i < reader_count; ++i) threads[static_cast<std::size_t>(i)].join();
  EXPECT_EQ(bad.load(), 0U);
}

TEST(GuestMemoryConcurrency, OneOfManyClosersReleasesTheRegions) {
  const auto memory = GuestMemory::memfd(page);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&memory] { memory->close(); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(memory->closed());
}

}  // namespace
}  // namespace vm::mem
