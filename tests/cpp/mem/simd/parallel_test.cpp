// Copies by several threads, and the first calls of several threads.

#include "vm/mem/simd/parallel.hpp"

#include <gtest/gtest.h>

#if defined(__linux__)
#include <sched.h>
#endif

#include <thread>
#include <vector>

#include "checks.hpp"
#include "vm/mem/simd/memcpy.hpp"

namespace vm::mem::simd {
namespace {

// First in its program: nobody has looked for the kernels before.
TEST(Dispatch, FirstCallsOfSeveralThreads) {
  Random random(1);
  const Bytes source = random_bytes(5000, random);
  std::vector<Bytes> copies(4, Bytes(source.size()));
  std::vector<std::thread> threads;
  for (Bytes& copy : copies) threads.emplace_back([&] { memcpy_raw(copy.data(), source.data(), source.size()); });
  for (std::thread& thread : threads) thread.join();
  for (const Bytes& copy : copies) EXPECT_EQ(copy, source);
}

TEST(Parallel, EverySizeAndNumberOfThreads) {
  Random random(2);
  CopyPlan plan = default_strategy().plan();
  plan.thread_bytes = 5000;
  plan.stream_hint_from = 0;
  const MemcpyStrategy strategy(plan);
  const Bytes source = random_bytes(100'000, random);
  for (const unsigned threads : {0U, 1U, 2U, 3U, 7U}) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{4999}, std::size_t{10'000},
                                   std::size_t{12'345}, std::size_t{99'900}}) {
      for (const bool streaming : {false, true}) {
        Bytes to(source.size() + 64, 3), expected = to;
        const std::size_t at = random() % 64;
        copy_parallel(to.data() + at, source.data(), size, {threads, streaming}, strategy);
        std::memcpy(expected.data() + at, source.data(), size);
        ASSERT_EQ(to, expected) << size << " bytes, " << threads << " threads";
      }
    }
  }
}

TEST(Parallel, NoThreadHasTooLittleToDo) {
  CopyPlan plan;
  plan.thread_bytes = 1000;
  EXPECT_EQ(copy_threads(999, {8, false}, plan), 1U);
  EXPECT_EQ(copy_threads(3999, {8, false}, plan), 3U);
  EXPECT_EQ(copy_threads(1'000'000, {8, false}, plan), 8U);
  EXPECT_EQ(copy_threads(1'000'000, {1, false}, plan), 1U);
  EXPECT_GE(copy_threads(1'000'000, {0, false}, plan), 1U);
  plan.thread_bytes = CopyPlan::never;
  EXPECT_EQ(copy_threads(1'000'000, {8, false}, plan), 1U);
}

#if defined(__linux__)
TEST(Parallel, NoThreadsForProcessorsThatTheCallerMayNotUse) {
  CopyPlan plan;
  plan.thread_bytes = 1;
  unsigned threads = 0;
  std::thread([&] {  // whose affinity goes with it
    cpu_set_t all, one;
    ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
    EXPECT_EQ(copy_threads(1'000'000, {0, false}, plan), static_cast<unsigned>(CPU_COUNT(&all)));
    CPU_ZERO(&one);
    for (unsigned cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
      if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    threads = copy_threads(1'000'000, {0, false}, plan);
  })
      .join();
  EXPECT_EQ(threads, 1U);
}
#endif

}  // namespace
}  // namespace vm::mem::simd
