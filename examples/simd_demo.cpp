// Copies of memory: what this machine has for them, that they are right, how fast they are, and how to ask for each.
// README.md beside this file says how it is built.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/simd/memcpy.hpp"
#include "vm/mem/simd/parallel.hpp"

namespace simd = vm::mem::simd;

namespace {

using Bytes = std::vector<unsigned char>;

constexpr std::size_t KiB = 1024, MiB = 1024 * KiB;

void features() {
  std::printf("SIMD feature: %s\n", simd::simd_feature_name());
  std::printf("AVX-512 %d, AVX2 %d, NEON %d\n", simd::has_avx512(), simd::has_avx2(), simd::has_neon());
  const simd::CopyPlan& plan = simd::default_strategy().plan();
  for (const std::size_t size : {std::size_t{64}, 4 * KiB, MiB, 1024 * MiB})
    std::printf("%zu bytes by %s\n", size, std::string(simd::name(plan.method(size))).c_str());
}

/// How many of the sizes were copied wrongly.
int correctness() {
  Bytes from(70001);
  std::iota(from.begin(), from.end(), static_cast<unsigned char>(1));
  int wrong = 0;
  for (std::size_t size = 0; size <= from.size(); size = size < 300 ? size + 1 : size * 2 + 1) {
    Bytes to(size + 1, 0xA5);  // one more, which has to stay
    simd::memcpy_raw(to.data(), from.data(), size);
    if (simd::memcmp_raw(to.data(), from.data(), size) != 0 || to[size] != 0xA5) ++wrong;
  }
  std::printf("wrong copies: %d\n", wrong);
  return wrong;
}

template <class Copy>
double gigabytes_per_second(std::size_t size, const Copy& copy) {
  const std::size_t loops = std::max<std::size_t>(3, std::min<std::size_t>(100000, 64 * MiB / size));
  double least = std::numeric_limits<double>::max();
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < loops; ++i) copy();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    least = std::min(least, taken.count() / static_cast<double>(loops));
  }
  return static_cast<double>(size) / least / 1e9;
}

void speed() {
  std::printf("%12s %12s %12s  GB/s\n", "bytes", "memcpy_raw", "std::memcpy");
  for (const std::size_t size : {std::size_t{64}, 4 * KiB, MiB, 64 * MiB}) {
    Bytes to(size), from(size, 1);
    // Through pointers that the compiler cannot see through, or it would leave copies out.
    unsigned char* volatile dst = to.data();
    const unsigned char* volatile src = from.data();
    const double ours = gigabytes_per_second(size, [&] { simd::memcpy_raw(dst, src, size); });
    const double theirs = gigabytes_per_second(size, [&] { std::memcpy(dst, src, size); });
    std::printf("%12zu %12.2f %12.2f\n", size, ours, theirs);
  }
}

void usage() {
  std::vector<double> from(1000, 1.5), to(1000);
  simd::memcpy_fast(to, from);  // knows the sizes, and checks them
  try {
    std::vector<double> short_one(10);
    simd::memcpy_fast(short_one, from);
  } catch (const vm::InvalidConfig& refused) {
    std::printf("refused: %s\n", refused.what());
  }
  Bytes big(16 * MiB, 7), copy(big.size());
  simd::copy_parallel(copy.data(), big.data(), big.size(), {2, false}, simd::default_strategy());
  simd::CopyPlan plan = simd::CopyPlan::detect();
  plan.stream_from = 64 * KiB;
  simd::simd_memcpy_optimized(copy.data(), big.data(), big.size(), simd::MemcpyStrategy(plan));
  std::printf("threads and streams: %s\n", copy == big ? "copied" : "WRONG");
}

}  // namespace

int main() {
  features();
  speed();
  usage();
  return correctness() == 0 ? 0 : 1;
}
