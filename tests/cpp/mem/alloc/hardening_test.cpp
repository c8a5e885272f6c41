// Each thing that Hardening promises to find, found, and what it says.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "support.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/alloc/encoded_queue.hpp"
#include "vm/mem/alloc/memory_resource.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem::alloc {
namespace {

using namespace test;

SlabConfig hardened(std::size_t quarantine = 0, bool canaries = false) {
  SlabConfig config = small_slabs();
  config.hardening.checks = true;
  config.hardening.quarantine = quarantine;
  config.hardening.canaries = canaries;
  return config;
}

/// The message of the error of this kind that `job` throws.
template <class Error, class Job>
std::string message(const Job& job) {
  try {
    job();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

bool says(const std::string& message, const std::string& words) {
  return message.find(words) != std::string::npos || (ADD_FAILURE() << message, false);
}

TEST(Hardening, ChecksFillNoMagazines) {
  SlabAllocator slabs(hardened());
  for (int i = 0; i < 3; ++i) slabs.deallocate(slabs.allocate(64));
  const SlabClassStats size64 = slabs.stats().classes[class_of(64)];
  EXPECT_EQ(size64.refills, 0U);
  EXPECT_EQ(size64.returned, 3U);
}

TEST(Hardening, FindsDoubleFrees) {
  for (const std::size_t quarantine : {0U, 4U}) {
    SlabAllocator slabs(hardened(quarantine));
    void* const block = slabs.allocate(100);
    void* const neighbour = slabs.allocate(100);
    slabs.deallocate(block, 100);
    says(message<DoubleFree>([&] { slabs.deallocate(block); }), "block of 100 bytes");
    EXPECT_THROW(slabs.deallocate(block, 100), DoubleFree);
    slabs.deallocate(neighbour);
    slabs.trim();
    EXPECT_THROW(slabs.deallocate(neighbour), DoubleFree);  // its slab is gone
    EXPECT_EQ(slabs.stats().live_blocks, 0U);
  }
}

TEST(Hardening, FindsForeignPointers) {
  SlabAllocator slabs(hardened());
  SlabAllocator others(hardened());
  auto* const block = static_cast<std::byte*>(slabs.allocate(100));
  int local = 0;
  says(message<AccessViolation>([&] { slabs.deallocate(&local); }), "no memory of this allocator");
  says(message<AccessViolation>([&] { others.deallocate(block); }), "no memory of this allocator");
  says(message<AccessViolation>([&] { slabs.deallocate(block + 16); }), "16 bytes inside a block");
  says(message<AccessViolation>([&] { slabs.deallocate(block + 1); }), "1 bytes inside a block");
  says(message<AccessViolation>([&] { slabs.deallocate(block + slabs.usable_size(block)); }), "no call of allocate");
  says(message<AccessViolation>([&] { slabs.deallocate(block + 65536); }), "no memory");
  says(message<AccessViolation>([&] { slabs.deallocate(block, 99); }), "allocated with 100 bytes");
  EXPECT_THROW(slabs.deallocate(block, 100000), AccessViolation);
  slabs.deallocate(block, 100);
}

TEST(Hardening, FindsOverflows) {
  SlabAllocator slabs(hardened(0, true));
  for (std::size_t size : {0U, 1U, 24U, 100U, 120U, 1000U, 8184U}) {
    auto* const block = static_cast<std::byte*>(slabs.allocate(size));
    fill(block, size, 0xff);
    slabs.verify();
    slabs.deallocate(block, size);

    auto* const victim = static_cast<std::byte*>(slabs.allocate(size));
    victim[size] ^= std::byte{1};
    EXPECT_THROW(slabs.verify(), AccessViolation);
    says(message<AccessViolation>([&] { slabs.deallocate(victim); }),
         "beyond its end, at byte " + std::to_string(size));
    EXPECT_THROW(slabs.deallocate(victim), DoubleFree);  // it is gone for good
    EXPECT_NE(slabs.allocate(size), victim);
  }
  EXPECT_EQ(slabs.largest_size(), largest_block - 8);
  EXPECT_THROW(slabs.allocate(largest_block - 7), InvalidConfig);
}

TEST(Hardening, FindsUsesAfterFree) {
  SlabAllocator slabs(hardened(8));
  auto* const victim = static_cast<std::byte*>(slabs.allocate(64));
  slabs.deallocate(victim);
  slabs.verify();
  victim[13] = std::byte{7};
  says(message<AccessViolation>([&] { slabs.verify(); }), "at byte 13");
  // So it is by the free that pushes it out, and only by that one.
  std::vector<void*> blocks;
  for (int i = 0; i < 10; ++i) blocks.push_back(slabs.allocate(64));
  int found = 0;
  for (void* block : blocks) {
    try {
      slabs.deallocate(block);
    } catch (const AccessViolation& error) {
      ++found;
      EXPECT_NE(std::string(error.what()).find("written after it had been freed"), std::string::npos);
    }
  }
  EXPECT_EQ(found, 1);
  slabs.verify();
  const SlabStats stats = slabs.stats();
  EXPECT_EQ(stats.quarantined, 8U);
  EXPECT_EQ(stats.live_blocks, 9U);  // those, and the damaged one, which nobody gets any more
  slabs.trim();
  EXPECT_EQ(slabs.stats().live_blocks, 1U);
}

TEST(Hardening, AFreedBlockIsNotReusedBeforeItsTime) {
  SlabAllocator slabs(hardened(3));
  void* const block = slabs.allocate(64);
  slabs.deallocate(block);
  for (int i = 0; i < 3; ++i) {
    void* const other = slabs.allocate(64);
    EXPECT_NE(other, block);
    slabs.deallocate(other);
  }
  EXPECT_EQ(slabs.allocate(64), block);
}

TEST(Hardening, QuarantineYieldsWhenMemoryRunsOut) {
  SlabConfig config = hardened(100000);
  config.capacity = 65536;
  SlabAllocator slabs(config);
  for (int i = 0; i < 100; ++i) slabs.deallocate(slabs.allocate(8192));
  EXPECT_EQ(slabs.stats().repeated_frees, 0U);
}

TEST(Hardening, GuardPagesEndSlabs) {
  SlabConfig config = small_slabs(1 << 20);
  config.hardening.guard_pages = true;
  SlabAllocator slabs(config);
  std::vector<std::byte*> blocks;
  try {
    while (true) blocks.push_back(static_cast<std::byte*>(slabs.allocate(4096)));
  } catch (const ResourceExhausted&) {
  }
  // 64 KiB less one page, 16 times; the first slab, which guards what follows, is not counted in the capacity.
  EXPECT_EQ(blocks.size(), 16 * (65536 - host_page_size()) / 4096);
  int guards = 0;
  for (std::byte* block : blocks) {
    fill(block, 4096, 1);
    if (!readable(block + 4096)) ++guards;
  }
  EXPECT_EQ(guards, 16);
  const std::byte* const lowest = *std::min_element(blocks.begin(), blocks.end());
  EXPECT_FALSE(readable(lowest - 1));
  for (std::byte* block : blocks) slabs.deallocate(block);
}

TEST(Hardening, ContainersWorkOverAllOfIt) {
  SlabConfig config = small_slabs();
  config.hardening = Hardening::all();
  SlabAllocator slabs(config);
  SlabResource resource(slabs);
  for (int round = 0; round < 3; ++round) {
    std::pmr::vector<std::pmr::string> strings(&resource);
    for (std::size_t i = 0; i < 500; ++i) strings.emplace_back(i % 200, 'x');
    slabs.verify();
  }
  slabs.trim();
  EXPECT_EQ(slabs.stats().live_blocks, 0U);
}

TEST(EncodedQueue, IsAQueue) {
  detail::EncodedQueue queue(3, 12345);
  for (std::uint64_t i = 0; i < 20; ++i) {
    queue.push(i);
    queue.push(detail::EncodedQueue::largest - i);
    EXPECT_EQ(queue.peek(1), detail::EncodedQueue::largest - i);
    queue.push(0);
    EXPECT_TRUE(queue.full());
    EXPECT_EQ(queue.pop(), i);
    EXPECT_EQ(queue.pop(), detail::EncodedQueue::largest - i);
    EXPECT_EQ(queue.pop(), 0U);
    EXPECT_EQ(queue.size(), 0U);
  }
}

TEST(EncodedQueue, FindsEntriesThatWereWritten) {
  for (std::size_t bit = 0; bit < 64; ++bit) {
    detail::EncodedQueue queue(4, 99);
    queue.push(1000);
    queue.push(2000);
    queue.entries()[0] ^= std::uint64_t{1} << bit;
    EXPECT_FALSE(queue.peek(0)) << bit;
    EXPECT_FALSE(queue.pop()) << bit;
    EXPECT_EQ(queue.pop(), 2000U);
  }
  detail::EncodedQueue queue(2, 99);
  queue.push(1);
  queue.push(2);
  const std::uint64_t old = queue.entries()[0];
  std::swap(queue.entries()[0], queue.entries()[1]);
  EXPECT_FALSE(queue.pop());  // an entry of another place
  queue.push(1);
  queue.entries()[0] = old;
  EXPECT_FALSE(queue.pop());
  EXPECT_FALSE(queue.pop());  // and an old one of the same
}

}  // namespace
}  // namespace vm::mem::alloc
