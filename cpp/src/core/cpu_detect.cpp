// Asks this machine, and hands the answers to the decoders.

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "core/affinity.hpp"
#include "core/sysfs.hpp"
#include "vm/core/cpu_features.hpp"

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#include <sys/prctl.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace vm {

namespace {

#if defined(__APPLE__)
std::optional<std::uint64_t> sysctl_number(const char* name) {
  std::uint64_t value = 0;  // the kernel fills 4 or 8 bytes, little-endian
  std::size_t size = sizeof value;
  if (sysctlbyname(name, &value, &size, nullptr, 0) != 0) return std::nullopt;
  return value;
}

std::vector<Cache> read_machine_caches() {
  const auto line = static_cast<std::uint32_t>(sysctl_number("hw.cachelinesize").value_or(0));
  std::vector<Cache> caches;
  const auto add = [&](int level, CacheType type, const char* name) {
    const std::uint64_t size = sysctl_number(name).value_or(0);
    if (size != 0) caches.push_back({level, type, size, line, 0, {}});
  };
  add(1, CacheType::data, "hw.l1dcachesize");
  add(1, CacheType::instruction, "hw.l1icachesize");
  add(2, CacheType::unified, "hw.l2cachesize");
  add(3, CacheType::unified, "hw.l3cachesize");
  return caches;
}
#else
std::vector<Cache> read_machine_caches() {
  const std::vector<int> cpus = allowed_cpus();
  return sysfs::read_caches("", cpus.empty() ? 0 : cpus.front());
}
#endif

#if defined(__x86_64__) || defined(_M_X64)
CpuidRegisters this_cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  CpuidRegisters r;
#if defined(_MSC_VER)
  int words[4];
  __cpuidex(words, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<std::uint32_t>(words[0]), static_cast<std::uint32_t>(words[1]), static_cast<std::uint32_t>(words[2]),
       static_cast<std::uint32_t>(words[3])};
#else
  __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
#endif
  return r;
}

std::uint64_t this_xcr0() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  // By hand: the intrinsic would need the whole file compiled with -mxsave.
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  std::uint64_t xcr0 = (std::uint64_t{high} << 32) | low;
#if defined(__APPLE__)
  // macOS sets the AVX-512 bits for a thread on its first AVX-512 instruction, and says so only here.
  if (sysctl_number("hw.optional.avx512f").value_or(0) != 0) xcr0 |= 0xe0;
#endif
  return xcr0;
#endif
}

CpuFeatures detect_processor() {
  CpuFeatures features = decode_cpuid({this_cpuid, this_xcr0});
#if defined(__linux__)
  if (const std::optional<std::string> cpuinfo = sysfs::read_text("/proc/cpuinfo")) withdraw_broken(features, *cpuinfo);
#endif
  return features;
}

#elif defined(__aarch64__) && defined(__linux__)
CpuFeatures detect_processor() {
  ArmCapabilities capabilities;
  capabilities.hwcap = getauxval(AT_HWCAP);
  capabilities.hwcap2 = getauxval(AT_HWCAP2);
#if defined(PR_SVE_GET_VL)
  const int vector_length = prctl(PR_SVE_GET_VL);
  if (vector_length >= 0)
    capabilities.sve_vector_bytes = static_cast<std::uint32_t>(vector_length) & PR_SVE_VL_LEN_MASK;
#endif
  const std::vector<int> cpus = allowed_cpus();
  const std::string identification =
      "/sys/devices/system/cpu/cpu" + std::to_string(cpus.empty() ? 0 : cpus.front()) + "/regs/identification/midr_el1";
  if (const std::optional<std::string> midr = sysfs::read_text(identification)) {
    capabilities.midr = sysfs::parse_hexadecimal(*midr, identification);
  }
  capabilities.event_sources = sysfs::list_directory("/sys/bus/event_source/devices");
  return decode_arm(capabilities);
}

#elif defined(__aarch64__) && defined(__APPLE__)
std::string sysctl_text(const char* name) {
  char text[256] = {};
  std::size_t size = sizeof text - 1;
  return sysctlbyname(name, text, &size, nullptr, 0) == 0 ? text : "";
}

CpuFeatures detect_processor() {
  CpuFeatures features = decode_arm_sysctl(sysctl_number);
  features.brand = sysctl_text("machdep.cpu.brand_string");
  return features;
}

#else
CpuFeatures detect_processor() { return {}; }
#endif

}  // namespace

std::string to_string(Architecture architecture) {
  switch (architecture) {
    case Architecture::x86_64: return "x86_64";
    case Architecture::aarch64: return "aarch64";
    case Architecture::other: return "other";
  }
  return "other";
}

std::uint64_t CpuFeatures::cache_bytes(int level) const noexcept {
  const auto found = std::find_if(caches.begin(), caches.end(), [level](const Cache& cache) {
    return cache.level == level && cache.type != CacheType::instruction;
  });
  return found == caches.end() ? 0 : found->size;
}

CpuFeatures CpuFeatures::detect() {
  CpuFeatures features = detect_processor();
  features.caches = read_machine_caches();
  return features;
}

}  // namespace vm
