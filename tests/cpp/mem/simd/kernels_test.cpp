// Every kernel forced, against the C library.

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "checks.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/simd/memcpy.hpp"

namespace vm::mem::simd {
namespace {

// Alignments differ from run to run, so that many runs try all of them; VM_TEST_SEED repeats one.
std::uint64_t seed() {
  static const std::uint64_t chosen = [] {
    const char* wanted = std::getenv("VM_TEST_SEED");
    return wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : std::uint64_t{std::random_device{}()};
  }();
  return chosen;
}

class Kernels : public testing::TestWithParam<InstructionSet> {};

TEST_P(Kernels, DoWhatTheCLibraryDoes) {
  const std::string reason = why_not(GetParam(), CpuFeatures::detect());
  if (!reason.empty()) GTEST_SKIP() << name(GetParam()) << ": " << reason;
  Random random(seed());
  for (const CopyPlan& plan : plans_of(GetParam())) {
    SCOPED_TRACE("VM_TEST_SEED=" + std::to_string(seed()) +
                 ", method of large copies: " + std::string(name(plan.method(checked))));
    EXPECT_EQ(check_everything(MemcpyStrategy(plan), random), "");
  }
}

INSTANTIATE_TEST_SUITE_P(All, Kernels,
                         testing::Values(InstructionSet::scalar, InstructionSet::sse2, InstructionSet::avx,
                                         InstructionSet::avx2, InstructionSet::avx512, InstructionSet::neon,
                                         InstructionSet::sve),
                         [](const auto& instance) { return std::string(name(instance.param)); });

TEST(DefaultStrategy, DoesWhatTheCLibraryDoes) {
  Random random(seed());
  SCOPED_TRACE("VM_TEST_SEED=" + std::to_string(seed()));
  EXPECT_EQ(check_everything(default_strategy(), random), "");
  EXPECT_EQ(check_everything(MemcpyStrategy::baseline(), random), "");
}

// With fake caches of a few KiB every method takes its turn at sizes that are quickly compared.
TEST(FakeCaches, ThresholdsSwitchMethods) {
  CpuFeatures features = CpuFeatures::detect();
  features.usable.reset(static_cast<std::size_t>(CpuFeature::fsrm));  // whose strings go on beyond the caches
  features.caches = {{1, CacheType::data, 2048, 64, 8, {0}}, {2, CacheType::unified, 8192, 64, 8, {0}}};
  const CopyPlan plan = CopyPlan::for_machine(features);
  EXPECT_EQ(plan.method(256), Method::small);
  EXPECT_EQ(plan.method(257), Method::vector);
  EXPECT_EQ(plan.stream_from, 6144U);
  EXPECT_EQ(plan.method(6144), Method::stream);
  EXPECT_EQ(plan.method(6143), features.has(CpuFeature::erms) ? Method::string : Method::vector);
  Random random(seed());
  const MemcpyStrategy strategy(plan);
  const Bytes source = random_bytes(20'000, random);
  for (std::size_t n = 0; n <= source.size() - 64; n += 1 + random() % 97) {
    Bytes ours(source.size() + 64, 1), theirs = ours;
    const std::size_t to = random() % 64, from = random() % 64;
    strategy.copy(ours.data() + to, source.data() + from, n);
    std::memcpy(theirs.data() + to, source.data() + from, n);
    ASSERT_EQ(ours, theirs) << where("copy", n, to, from);
    strategy.fill(ours.data() + to, 7, n);
    std::memset(theirs.data() + to, 7, n);
    ASSERT_EQ(ours, theirs) << where("fill", n, to, from);
  }
}

}  // namespace
}  // namespace vm::mem::simd
