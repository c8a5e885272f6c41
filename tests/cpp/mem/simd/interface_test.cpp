// Plans, the checked functions, the raw ones, strided arrays.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "checks.hpp"
#include "inlined.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/simd/memcpy.hpp"
#include "vm/mem/simd/strided.hpp"

namespace vm::mem::simd {
namespace {

CpuFeatures machine(Architecture architecture, std::initializer_list<CpuFeature> features,
                    std::initializer_list<std::uint64_t> caches = {}) {
  CpuFeatures described;
  described.architecture = architecture;
  for (const CpuFeature feature : features) described.usable.set(static_cast<std::size_t>(feature));
  int level = 1;
  for (const std::uint64_t size : caches)
    described.caches.push_back({level++, level == 2 ? CacheType::data : CacheType::unified, size, 64, 8, {0}});
  return described;
}

constexpr std::uint64_t KiB = 1024, MiB = 1024 * KiB;
using F = CpuFeature;

TEST(CopyPlan, FollowsFeaturesAndCaches) {
  if (!why_not(InstructionSet::avx512, CpuFeatures::detect()).empty()) GTEST_SKIP() << "built for another processor";
  const auto skylake = {F::sse2, F::avx, F::avx2, F::bmi1, F::bmi2, F::avx512f, F::avx512dq, F::avx512bw, F::avx512vl};
  EXPECT_EQ(CopyPlan::for_machine(machine(Architecture::x86_64, skylake)).instruction_set, InstructionSet::avx2);
  const auto sandy_bridge = {F::sse2, F::avx};
  EXPECT_EQ(CopyPlan::for_machine(machine(Architecture::x86_64, sandy_bridge)).instruction_set, InstructionSet::avx);

  CpuFeatures zen = machine(Architecture::x86_64, skylake, {48 * KiB, 1 * MiB, 32 * MiB});
  zen.usable.set(static_cast<std::size_t>(F::avx512_vbmi2));
  CopyPlan plan = CopyPlan::for_machine(zen);
  EXPECT_EQ(plan.instruction_set, InstructionSet::avx512);
  EXPECT_EQ(plan.string_from, CopyPlan::never);
  EXPECT_EQ(plan.stream_from, 24 * MiB);
  zen.usable.set(static_cast<std::size_t>(F::erms));
  plan = CopyPlan::for_machine(zen);
  EXPECT_EQ(plan.string_from, 24 * KiB);
  EXPECT_EQ(plan.method(64), Method::small);
  EXPECT_EQ(plan.method(24 * KiB - 1), Method::vector);
  EXPECT_EQ(plan.method(24 * KiB), Method::string);
  EXPECT_EQ(plan.method(24 * MiB), Method::stream);
  EXPECT_EQ(plan.method(1 * MiB, true), Method::stream);
  zen.usable.set(static_cast<std::size_t>(F::fsrm));
  plan = CopyPlan::for_machine(zen);
  EXPECT_EQ(plan.method(24 * MiB), Method::string);
  EXPECT_EQ(plan.method(24 * MiB, true), Method::stream);
}

TEST(CopyPlan, UnknownCachesSwitchOffWhatNeedsThem) {
  const CopyPlan plan = CopyPlan::for_machine(machine(Architecture::x86_64, {F::sse2, F::erms}));
  EXPECT_EQ(plan.string_from, CopyPlan::never);
  EXPECT_EQ(plan.stream_from, CopyPlan::never);
  EXPECT_EQ(CopyPlan::for_machine(machine(Architecture::other, {})).instruction_set, InstructionSet::scalar);
}

TEST(CopyPlan, NamesGoBothWays) {
  for (std::size_t i = 0; i < instruction_set_count; ++i)
    EXPECT_EQ(find_instruction_set(name(static_cast<InstructionSet>(i))), static_cast<InstructionSet>(i));
  EXPECT_FALSE(find_instruction_set("mmx"));
  EXPECT_EQ(name(Method::string), "string");
}

TEST(CopyPlan, Compares) {
  CopyPlan a, b;
  EXPECT_TRUE(a == b);
  b.thread_bytes = 1;
  EXPECT_TRUE(a != b);
}

TEST(MemcpyStrategy, RefusesWhatIsNotThere) {
  CopyPlan plan;
#if defined(__x86_64__)
  plan.instruction_set = InstructionSet::neon;
  EXPECT_EQ(why_not(plan.instruction_set, CpuFeatures::detect()), "it is of aarch64, this processor is x86_64");
#else
  plan.instruction_set = InstructionSet::sse2;
#endif
  EXPECT_THROW(MemcpyStrategy{plan}, NotSupported);
}

TEST(MemcpyFast, CopiesAndChecks) {
  std::vector<int> from(100), to(100);
  std::iota(from.begin(), from.end(), 0);
  memcpy_fast(to, from);
  EXPECT_EQ(to, from);
  EXPECT_EQ(memcmp_fast(to, from), 0);
  to[50] = -1;
  EXPECT_NE(memcmp_fast(to, from), 0);
  EXPECT_THROW(memcpy_fast(to, std::vector<int>(99)), InvalidConfig);
  EXPECT_THROW(memcpy_fast(from, from), InvalidConfig);
  memset_fast(to, 0);
  EXPECT_EQ(to, std::vector<int>(100));
  std::array<char, 0> none{};
  memcpy_fast(none, std::string());
  EXPECT_LT(memcmp_fast(std::string("ab"), std::string("abc")), 0);
  EXPECT_GT(memcmp_fast(std::string("b"), std::string("abc")), 0);
}

TEST(MemcpyFast, MovesWhatOverlaps) {
  std::string text = "0123456789";
  struct Part {
    char* first;
    std::size_t count;
    char* data() const { return first; }
    std::size_t size() const { return count; }
  };
  EXPECT_THROW(memcpy_fast(Part{text.data() + 1, 5}, Part{text.data(), 5}), InvalidConfig);
  memmove_fast(Part{text.data() + 1, 5}, Part{text.data(), 5});
  EXPECT_EQ(text, "0012346789");
}

TEST(MemcpyRaw, KnownAndUnknownSizes) {
  Random random(1);
  const Bytes source = random_bytes(300, random);
  Bytes to(300);
  memcpy_raw(to.data(), source.data(), 24);
  EXPECT_EQ(std::memcmp(to.data(), source.data(), 24), 0);
  for (volatile std::size_t n = 0; n < 300; n = n + 1) {
    const std::size_t size = n;
    Bytes ours(300), moved(300);
    memcpy_raw(ours.data(), source.data(), size);
    memmove_raw(moved.data(), source.data(), size);
    ASSERT_EQ(mismatch_raw(ours.data(), source.data(), size), size);
    ASSERT_EQ(memcmp_raw(moved.data(), ours.data(), moved.size()), 0);
    memset_raw(ours.data(), 0, size);
    ASSERT_EQ(ours, Bytes(300));
    simd_memcpy_optimized(ours.data(), source.data(), size, default_strategy());
    ASSERT_EQ(ours, moved);
  }
}

TEST(MemcpyRaw, InlinedForAvx512) {
  if (inlined_for_avx512() && !has_avx512()) GTEST_SKIP() << "this processor has no AVX-512";
  Random random(2);
  const Bytes source = random_bytes(400, random);
  for (std::size_t n = 0; n <= 300; ++n) {
    Bytes ours(400, 1), theirs(400, 1);
    copy_inlined(ours.data() + 5, source.data() + n % 64, n);
    std::memcpy(theirs.data() + 5, source.data() + n % 64, n);
    ASSERT_EQ(ours, theirs) << n;
  }
}

TEST(Features, AreThoseOfTheProcessor) {
  const CpuFeatures features = CpuFeatures::detect();
  EXPECT_EQ(has_avx512(), why_not(InstructionSet::avx512, features).empty());
  EXPECT_EQ(has_avx2(), why_not(InstructionSet::avx2, features).empty());
  EXPECT_EQ(has_neon(), why_not(InstructionSet::neon, features).empty());
  const bool avx512 = default_strategy().plan().instruction_set == InstructionSet::avx512;
  EXPECT_EQ(std::string(simd_feature_name()) == "AVX-512 (512-bit)", avx512);
  EXPECT_EQ(default_strategy().plan(), CopyPlan::detect());
}

// A random array of up to four axes inside `size` bytes: strides of either sign, axes in any order.
struct RandomArray {
  std::vector<std::ptrdiff_t> strides;
  std::size_t offset = 0, size;

  RandomArray(const std::vector<std::size_t>& shape, std::size_t item, Random& random)
      : strides(shape.size()), size(item) {
    std::vector<std::size_t> order(shape.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t axis : order) {
      size += random() % 3 * item;  // a gap
      strides[axis] = static_cast<std::ptrdiff_t>(size);
      size *= shape[axis];
      if (random() % 3 != 0) continue;
      offset += (shape[axis] - 1) * static_cast<std::size_t>(strides[axis]);
      strides[axis] = -strides[axis];
    }
  }
};

void copy_one_by_one(const StridedCopy& copy, std::size_t axis, std::ptrdiff_t to, std::ptrdiff_t from) {
  if (axis == copy.shape.size()) {
    std::memcpy(static_cast<char*>(copy.dst.data) + to, static_cast<const char*>(copy.src.data) + from, copy.item);
    return;
  }
  for (std::size_t i = 0; i < copy.shape[axis]; ++i)
    copy_one_by_one(copy, axis + 1, to + copy.dst.strides[axis] * static_cast<std::ptrdiff_t>(i),
                    from + copy.src.strides[axis] * static_cast<std::ptrdiff_t>(i));
}

TEST(Strided, RandomArraysAreCopiedElementByElement) {
  Random random(7);
  CopyPlan plan = default_strategy().plan();
  plan.thread_bytes = 64;
  const MemcpyStrategy strategy(plan);
  for (int round = 0; round < 600; ++round) {
    std::vector<std::size_t> shape(random() % 5);
    for (std::size_t& count : shape) count = 1 + random() % (shape.size() > 2 ? 6 : 70);
    const std::size_t item = std::array<std::size_t, 8>{1, 2, 3, 4, 8, 12, 16, 100}[random() % 8];
    const RandomArray to(shape, item, random), from(shape, item, random);
    const Bytes source = random_bytes(from.size, random);
    Bytes ours(to.size, 9), theirs(to.size, 9);
    StridedCopy copy{item, shape, {ours.data() + to.offset, to.strides}, {source.data() + from.offset, from.strides}};
    CopyOptions options;
    options.threads = round % 8 == 0 ? 3 : 1;
    copy_strided(copy, options, strategy);
    copy.dst.data = theirs.data() + to.offset;
    copy_one_by_one(copy, 0, 0, 0);
    ASSERT_EQ(ours, theirs) << "round " << round;
  }
}

TEST(Strided, OverlapIsRefusedOrMoved) {
  const MemcpyStrategy& strategy = default_strategy();
  Bytes square(64 * 64);
  std::iota(square.begin(), square.end(), static_cast<unsigned char>(0));
  const Bytes before = square;
  const StridedCopy transpose{1, {64, 64}, {square.data(), {64, 1}}, {square.data(), {1, 64}}};
  EXPECT_THROW(copy_strided(transpose, {}, strategy), InvalidConfig);
  move_strided(transpose, {}, strategy);
  for (std::size_t i = 0; i < square.size(); ++i) ASSERT_EQ(square[i], before[i % 64 * 64 + i / 64]);
}

TEST(Strided, ArgumentsAreChecked) {
  const MemcpyStrategy& strategy = default_strategy();
  char to[8] = {}, from[8] = {'a', 'b'};
  EXPECT_THROW(copy_strided({1, {8}, {to, {0}}, {from, {1}}}, {}, strategy), InvalidConfig);
  EXPECT_THROW(copy_strided({1, {8}, {to, {1, 1}}, {from, {1}}}, {}, strategy), InvalidConfig);
  copy_strided({1, {8, 0}, {to, {0, 0}}, {from, {1, 1}}}, {}, strategy);  // nothing to copy, nothing refused
  EXPECT_EQ(to[0], 0);
  copy_strided({1, {8}, {to, {1}}, {from, {0}}}, {}, strategy);  // one element for all
  EXPECT_EQ(std::string(to, 8), "aaaaaaaa");
  copy_strided({2, {}, {to, {}}, {from, {}}}, {}, strategy);
  EXPECT_EQ(std::string(to, 3), "aba");
}

}  // namespace
}  // namespace vm::mem::simd
