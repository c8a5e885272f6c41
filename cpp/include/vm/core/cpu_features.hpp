#pragma once
/// \file
/// What the processor of this machine can do for a program. Decoding is pure: it reads CPUID leaves or hardware
/// capability words that the caller hands over, so that recorded machines (and the CPUID of a guest) decode the same
/// way.

#include <bitset>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "vm/core/cache.hpp"
#include "vm/core/cpu_feature.hpp"

namespace vm {

enum class Architecture : std::uint8_t { other = 0, x86_64 = 1, aarch64 = 2 };

/// "x86_64", "aarch64", "other".
std::string to_string(Architecture architecture);

using CpuFeatureSet = std::bitset<cpu_feature_count>;

struct CpuFeatures {
  Architecture architecture = Architecture::other;
  std::string vendor;  ///< "GenuineIntel", "AuthenticAMD", "Arm", ...; empty when not known
  std::string brand;   ///< the processor's own name; empty when it has none
  /// x86: display family, model and stepping (SDM vol. 2A, CPUID leaf 1). AArch64: family is empty, the others are part
  /// number and revision of MIDR_EL1.
  std::optional<std::uint32_t> family, model, stepping;
  /// x86: who answers CPUID leaf 0x40000000 ("KVM", "Hyper-V", ..., or the raw signature of one that is not known
  /// here). Empty without a hypervisor, and where a program cannot tell (AArch64).
  std::string hypervisor;
  std::optional<int> physical_bits, virtual_bits;  ///< address widths, where a program can see them (x86)
  std::optional<std::uint32_t> sve_vector_bytes;   ///< of the thread that called `detect`, when it has SVE
  std::vector<Cache> caches;                       ///< of the first CPU that this thread may run on, by level and type

  CpuFeatureSet usable;    ///< the processor has it and the operating system supports it
  CpuFeatureSet disabled;  ///< the processor has it, but the operating system does not save its registers (XCR0) or
                           ///< has withdrawn it as broken (`withdraw_broken`)
  CpuFeatureSet unknown;   ///< a program on this system has no way to tell

  bool has(CpuFeature feature) const { return usable[static_cast<std::size_t>(feature)]; }
  /// Bytes of the data or unified cache at `level`; 0 when not known.
  std::uint64_t cache_bytes(int level) const noexcept;

  /// Asks this machine. Costs about a millisecond: keep the answer. Never fails for want of information; \throws
  /// InvalidConfig when sysfs holds a cache description that is not one.
  static CpuFeatures detect();
};

struct CpuidRegisters {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// Where CPUID answers come from: this processor, a recording, a guest's table.
struct CpuidSource {
  std::function<CpuidRegisters(std::uint32_t leaf, std::uint32_t subleaf)> leaf;
  /// Asked only when CPUID says that the operating system enabled XGETBV (OSXSAVE).
  std::function<std::uint64_t()> xcr0;
};

/// Decodes CPUID (Intel SDM vol. 2A, AMD APM vol. 3 appendix E). A feature whose registers the operating system does
/// not save according to XCR0 is `disabled`. `caches` stays empty.
CpuFeatures decode_cpuid(const CpuidSource& source);

/// Disables RDRAND and RDSEED where Linux lists flags in `cpuinfo` (the text of /proc/cpuinfo) without them. The kernel
/// withdraws them from processors whose generator fails (AMD-SB-7055: RDSEED of Zen 5); CPUID, in a guest above all,
/// goes on promising them. Other features are left alone: a kernel older than the processor lists fewer than there are.
void withdraw_broken(CpuFeatures& features, std::string_view cpuinfo);

/// What Linux tells an AArch64 program.
struct ArmCapabilities {
  std::uint64_t hwcap = 0;   ///< getauxval(AT_HWCAP)
  std::uint64_t hwcap2 = 0;  ///< getauxval(AT_HWCAP2)
  std::optional<std::uint32_t> sve_vector_bytes;
  std::optional<std::uint64_t> midr;  ///< MIDR_EL1
  /// Names of the kernel's performance event sources (/sys/bus/event_source/devices); empty optional: cannot be read.
  std::optional<std::vector<std::string>> event_sources;
};

/// Decodes the capability words (Linux, Documentation/arch/arm64/elf_hwcaps.rst). VHE lives in ID_AA64MMFR1_EL1, which
/// the kernel hides from programs, so it is always `unknown`; PMU and SPE count when the kernel offers an event source.
CpuFeatures decode_arm(const ArmCapabilities& capabilities);

/// Decodes macOS on AArch64: `lookup` answers for one sysctl name, with no value where the system does not know it.
CpuFeatures decode_arm_sysctl(const std::function<std::optional<std::uint64_t>(const char* name)>& lookup);

}  // namespace vm
