// AArch64 capability words to features. Bits: Linux, arch/arm64/include/uapi/asm/hwcap.h; they are part of its ABI.

#include <algorithm>
#include <string>

#include "vm/core/cpu_features.hpp"
#include "vm/core/error.hpp"

namespace vm {

namespace {

using F = CpuFeature;

struct Row {
  CpuFeature feature;
  bool second;  ///< in hwcap2
  std::uint64_t bits;
};

constexpr std::uint64_t bit(unsigned position) { return std::uint64_t{1} << position; }

constexpr Row rows[] = {
    {F::neon, false, bit(1)},
    {F::aes, false, bit(3)},
    {F::pmull, false, bit(4)},
    {F::sha1, false, bit(5)},
    {F::sha2, false, bit(6)},
    {F::crc32, false, bit(7)},
    {F::lse, false, bit(8)},
    {F::fp16, false, bit(9) | bit(10)},  // scalar and vector
    {F::rdm, false, bit(12)},
    {F::jscvt, false, bit(13)},
    {F::fcma, false, bit(14)},
    {F::lrcpc, false, bit(15)},
    {F::dcpop, false, bit(16)},
    {F::sha3, false, bit(17)},
    {F::sm3, false, bit(18)},
    {F::sm4, false, bit(19)},
    {F::dotprod, false, bit(20)},
    {F::sha512, false, bit(21)},
    {F::sve, false, bit(22)},
    {F::fhm, false, bit(23)},
    {F::dit, false, bit(24)},
    {F::lse2, false, bit(25)},
    {F::lrcpc2, false, bit(26)},
    {F::flagm, false, bit(27)},
    {F::ssbs, false, bit(28)},
    {F::sb, false, bit(29)},
    {F::pauth, false, bit(30) | bit(31)},  // address and generic keys
    {F::dcpodp, true, bit(0)},
    {F::sve2, true, bit(1)},
    {F::sve_aes, true, bit(2)},
    {F::sve_pmull, true, bit(3)},
    {F::sve_bitperm, true, bit(4)},
    {F::sve_sha3, true, bit(5)},
    {F::sve_sm4, true, bit(6)},
    {F::frint, true, bit(8)},
    {F::sve_i8mm, true, bit(9)},
    {F::sve_bf16, true, bit(12)},
    {F::i8mm, true, bit(13)},
    {F::bf16, true, bit(14)},
    {F::rng, true, bit(16)},
    {F::bti, true, bit(17)},
    {F::mte, true, bit(18)},
    {F::sme, true, bit(23)},
    {F::sve2p1, true, bit(36)},
    {F::sme2, true, bit(37)},
    {F::mops, true, bit(43)},
    {F::lse128, true, bit(47)},
};

/// MIDR_EL1.Implementer (Arm ARM D19.2.100).
std::string implementer_name(std::uint64_t code) {
  switch (code) {
    case 0x41: return "Arm";
    case 0x42: return "Broadcom";
    case 0x43: return "Cavium";
    case 0x46: return "Fujitsu";
    case 0x48: return "HiSilicon";
    case 0x4e: return "NVIDIA";
    case 0x50: return "Applied Micro";
    case 0x51: return "Qualcomm";
    case 0x53: return "Samsung";
    case 0x56: return "Marvell";
    case 0x61: return "Apple";
    case 0x69: return "Intel";
    case 0x6d: return "Microsoft";
    case 0xc0: return "Ampere";
    default: return hex(code);
  }
}

void decode_midr(std::uint64_t midr, CpuFeatures& features) {
  features.vendor = implementer_name((midr >> 24) & 0xff);
  features.model = static_cast<std::uint32_t>((midr >> 4) & 0xfff);
  features.stepping = static_cast<std::uint32_t>(midr & 0xf);
}

void set(CpuFeatureSet& set, CpuFeature feature) { set.set(static_cast<std::size_t>(feature)); }

bool starts_with(const std::string& text, const char* prefix) { return text.rfind(prefix, 0) == 0; }

/// The kernel names an AArch64 core's PMU after the architecture or the core: armv8_pmuv3_0, armv8_cortex_a72,
/// armv9_..., apple_icestorm_pmu; and SPE arm_spe_0 (drivers/perf/arm_pmuv3.c, apple_m1_cpu_pmu.c, arm_spe_pmu.c).
void decode_event_sources(const ArmCapabilities& capabilities, CpuFeatures& features) {
  if (!capabilities.event_sources) {
    set(features.unknown, F::pmu);
    set(features.unknown, F::spe);
    return;
  }
  for (const std::string& source : *capabilities.event_sources) {
    if (starts_with(source, "armv8_") || starts_with(source, "armv9_") ||
        (starts_with(source, "apple_") && source.find("_pmu") != std::string::npos)) {
      set(features.usable, F::pmu);
    }
    if (starts_with(source, "arm_spe_")) set(features.usable, F::spe);
  }
}

}  // namespace

CpuFeatures decode_arm(const ArmCapabilities& capabilities) {
  CpuFeatures features;
  features.architecture = Architecture::aarch64;
  for (const Row& row : rows) {
    const std::uint64_t word = row.second ? capabilities.hwcap2 : capabilities.hwcap;
    if ((word & row.bits) == row.bits) set(features.usable, row.feature);
  }
  if (features.has(F::sve)) features.sve_vector_bytes = capabilities.sve_vector_bytes;
  if (capabilities.midr) decode_midr(*capabilities.midr, features);
  decode_event_sources(capabilities, features);
  set(features.unknown, F::vhe);
  return features;
}

CpuFeatures decode_arm_sysctl(const std::function<std::optional<std::uint64_t>(const char* name)>& lookup) {
  static constexpr struct {
    CpuFeature feature;
    const char* name;
  } names[] = {
      {F::neon, "hw.optional.AdvSIMD"},           {F::fp16, "hw.optional.arm.FEAT_FP16"},
      {F::fhm, "hw.optional.arm.FEAT_FHM"},       {F::bf16, "hw.optional.arm.FEAT_BF16"},
      {F::i8mm, "hw.optional.arm.FEAT_I8MM"},     {F::dotprod, "hw.optional.arm.FEAT_DotProd"},
      {F::rdm, "hw.optional.arm.FEAT_RDM"},       {F::jscvt, "hw.optional.arm.FEAT_JSCVT"},
      {F::fcma, "hw.optional.arm.FEAT_FCMA"},     {F::frint, "hw.optional.arm.FEAT_FRINTTS"},
      {F::sme, "hw.optional.arm.FEAT_SME"},       {F::sme2, "hw.optional.arm.FEAT_SME2"},
      {F::aes, "hw.optional.arm.FEAT_AES"},       {F::pmull, "hw.optional.arm.FEAT_PMULL"},
      {F::sha1, "hw.optional.arm.FEAT_SHA1"},     {F::sha2, "hw.optional.arm.FEAT_SHA256"},
      {F::sha3, "hw.optional.arm.FEAT_SHA3"},     {F::sha512, "hw.optional.arm.FEAT_SHA512"},
      {F::crc32, "hw.optional.armv8_crc32"},      {F::lse, "hw.optional.arm.FEAT_LSE"},
      {F::lse2, "hw.optional.arm.FEAT_LSE2"},     {F::lrcpc, "hw.optional.arm.FEAT_LRCPC"},
      {F::lrcpc2, "hw.optional.arm.FEAT_LRCPC2"}, {F::dcpop, "hw.optional.arm.FEAT_DPB"},
      {F::dcpodp, "hw.optional.arm.FEAT_DPB2"},   {F::flagm, "hw.optional.arm.FEAT_FlagM"},
      {F::dit, "hw.optional.arm.FEAT_DIT"},       {F::ssbs, "hw.optional.arm.FEAT_SSBS"},
      {F::sb, "hw.optional.arm.FEAT_SB"},         {F::pauth, "hw.optional.arm.FEAT_PAuth"},
      {F::bti, "hw.optional.arm.FEAT_BTI"},
  };
  CpuFeatures features;
  features.architecture = Architecture::aarch64;
  features.vendor = "Apple";
  for (const auto& entry : names) {
    if (lookup(entry.name).value_or(0) != 0) set(features.usable, entry.feature);
  }
  // The system says nothing about these to a program.
  for (const CpuFeature feature : {F::vhe, F::pmu, F::spe}) set(features.unknown, feature);
  return features;
}

}  // namespace vm
