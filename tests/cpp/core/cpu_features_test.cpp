#include "vm/core/cpu_features.hpp"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "recorded_cpuid.hpp"

namespace {

using vm::CpuFeature;
using vm::CpuFeatures;
using vm::CpuidRegisters;
using vm::recorded::RecordedLeaves;

constexpr std::uint64_t xcr0_avx = 0x7, xcr0_avx512 = 0xe7, xcr0_amx = 0x602e7;

CpuFeatures decode(const RecordedLeaves& leaves, std::uint64_t xcr0) {
  return vm::decode_cpuid({[&leaves](std::uint32_t leaf, std::uint32_t subleaf) -> CpuidRegisters {
                             const auto found = leaves.find({leaf, subleaf});
                             return found == leaves.end() ? CpuidRegisters{} : found->second;
                           },
                           [xcr0] { return xcr0; }});
}

void expect_all(const CpuFeatures& features, const std::vector<CpuFeature>& wanted) {
  for (const CpuFeature feature : wanted) EXPECT_TRUE(features.has(feature)) << name(feature);
}

void expect_none(const CpuFeatures& features, const std::vector<CpuFeature>& unwanted) {
  for (const CpuFeature feature : unwanted) EXPECT_FALSE(features.has(feature)) << name(feature);
}

using F = CpuFeature;

// What GCC's manual says that -march=haswell may use, and the like below: an opinion that was not formed here.
const std::vector<F> haswell_set = {F::sse,  F::sse2, F::sse3,  F::ssse3,     F::sse4_1,     F::sse4_2, F::popcnt,
                                    F::avx,  F::avx2, F::aes,   F::pclmulqdq, F::rdrand,     F::fma,    F::bmi1,
                                    F::bmi2, F::f16c, F::lzcnt, F::movbe,     F::cmpxchg16b, F::xsave};
const std::vector<F> skylake_avx512_set = {F::rdseed,  F::adx,      F::clflushopt, F::clwb,     F::prefetchw,
                                           F::avx512f, F::avx512dq, F::avx512bw,   F::avx512vl, F::avx512cd};
const std::vector<F> sapphire_rapids_set = {
    F::avx512vbmi,  F::avx512ifma,  F::avx512_vbmi2, F::avx512_vnni, F::avx512_bitalg, F::avx512_vpopcntdq,
    F::avx512_bf16, F::avx512_fp16, F::amx_tile,     F::amx_int8,    F::amx_bf16,      F::avx_vnni,
    F::vaes,        F::vpclmulqdq,  F::gfni,         F::sha,         F::rdpid,         F::serialize,
    F::movdiri,     F::movdir64b,   F::cldemote,     F::waitpkg,     F::wbnoinvd};

TEST(CpuFeatureNames, AreTheirOwnInverse) {
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < vm::cpu_feature_count; ++i) {
    const auto feature = static_cast<CpuFeature>(i);
    EXPECT_EQ(vm::find_cpu_feature(name(feature)), feature);
    EXPECT_FALSE(describe(feature).empty());
    names.insert(name(feature));
  }
  EXPECT_EQ(names.size(), vm::cpu_feature_count);
  EXPECT_EQ(vm::find_cpu_feature("avx1024"), std::nullopt);
}

TEST(CpuidDecode, Haswell) {
  const CpuFeatures features = decode(vm::recorded::haswell, xcr0_avx);
  EXPECT_EQ(features.architecture, vm::Architecture::x86_64);
  EXPECT_EQ(features.vendor, "GenuineIntel");
  EXPECT_EQ(features.brand, "Intel(R) Core(TM) i7-4770 CPU @ 3.40GHz");
  EXPECT_EQ(features.family, 6U);
  EXPECT_EQ(features.model, 60U);
  EXPECT_EQ(features.stepping, 3U);
  EXPECT_EQ(features.physical_bits, 39);
  EXPECT_EQ(features.virtual_bits, 48);
  EXPECT_EQ(features.hypervisor, "");
  expect_all(features, haswell_set);
  expect_all(features, {F::vmx, F::erms, F::smep, F::invpcid, F::invariant_tsc, F::nx});
  expect_none(features, {F::avx512f, F::rdseed, F::smap, F::fsrm, F::svm, F::hypervisor, F::sha, F::la57});
  EXPECT_TRUE(features.disabled.none());
  EXPECT_TRUE(features.unknown.none());
}

TEST(CpuidDecode, SkylakeServer) {
  const CpuFeatures features = decode(vm::recorded::skylake_sp, 0x2ff);
  EXPECT_EQ(features.brand, "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz");
  EXPECT_EQ(features.model, 85U);
  EXPECT_EQ(features.physical_bits, 46);
  expect_all(features, haswell_set);
  expect_all(features, skylake_avx512_set);
  expect_none(features, {F::avx512ifma, F::avx512vbmi, F::avx512_vnni, F::vaes, F::gfni, F::fsrm});
}

TEST(CpuidDecode, KnightsLandingHasAnotherAvx512) {
  const CpuFeatures features = decode(vm::recorded::knights_landing, xcr0_avx512);
  EXPECT_EQ(features.brand, "Intel(R) Xeon Phi(TM) CPU 7210 @ 1.30GHz");
  expect_all(features, {F::avx512f, F::avx512cd, F::avx512er, F::avx512pf, F::prefetchw});
  expect_none(features, {F::avx512bw, F::avx512dq, F::avx512vl, F::clwb});
}

TEST(CpuidDecode, SapphireRapids) {
  const CpuFeatures features = decode(vm::recorded::sapphire_rapids, xcr0_amx);
  EXPECT_EQ(features.brand, "Intel(R) Xeon(R) w7-2475X");
  EXPECT_EQ(features.model, 143U);
  expect_all(features, haswell_set);
  expect_all(features, skylake_avx512_set);
  expect_all(features, sapphire_rapids_set);
  expect_all(features, {F::fsrm, F::fzrm, F::fsrs, F::fsrc, F::la57});
  EXPECT_TRUE(features.disabled[static_cast<std::size_t>(F::pku)]) << "recorded under a system that left CR4.PKE clear";
  expect_none(features, {F::avx512_vp2intersect, F::amx_fp16, F::avx_ifma, F::sse4a});
}

TEST(CpuidDecode, Zen4) {
  const CpuFeatures features = decode(vm::recorded::zen4, 0x2e7);
  EXPECT_EQ(features.vendor, "AuthenticAMD");
  EXPECT_EQ(features.brand, "AMD Ryzen 5 7600X 6-Core Processor");
  EXPECT_EQ(features.family, 25U);
  EXPECT_EQ(features.model, 97U);
  EXPECT_EQ(features.stepping, 2U);
  EXPECT_EQ(features.physical_bits, 48);
  expect_all(features, haswell_set);
  expect_all(features, {F::svm, F::sse4a, F::clzero, F::wbnoinvd, F::fsrm, F::vaes, F::vpclmulqdq, F::gfni, F::sha});
  expect_all(features, {F::avx512f, F::avx512dq, F::avx512bw, F::avx512vl, F::avx512cd, F::avx512ifma, F::avx512vbmi,
                        F::avx512_vbmi2, F::avx512_vnni, F::avx512_bitalg, F::avx512_vpopcntdq, F::avx512_bf16});
  expect_none(features, {F::vmx, F::avx512_fp16, F::amx_tile, F::avx_vnni, F::cldemote, F::hypervisor, F::xop});
}

TEST(CpuidDecode, GuestOfHyperV) {
  const CpuFeatures features = decode(vm::recorded::zen_under_hyper_v, xcr0_avx);
  EXPECT_EQ(features.family, 23U);
  EXPECT_TRUE(features.has(F::hypervisor));
  EXPECT_EQ(features.hypervisor, "Hyper-V");
  EXPECT_FALSE(features.has(F::svm));
}

/// The bytes of `text` in EBX, ECX, EDX, as hypervisors put their signature there.
CpuidRegisters signature(const char (&text)[13]) {
  const auto word = [&text](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4; ++i)
      value |= static_cast<std::uint32_t>(static_cast<unsigned char>(text[at + i])) << (8 * i);
    return value;
  };
  return {0x40000001, word(0), word(4), word(8)};
}

TEST(CpuidDecode, HypervisorNames) {
  RecordedLeaves guest = vm::recorded::zen_under_hyper_v;
  guest[{0x40000000, 0}] = signature("TCGTCGTCGTCG");
  EXPECT_EQ(decode(guest, xcr0_avx).hypervisor, "QEMU TCG");
  guest[{0x40000000, 0}] = signature("KVMKVMKVM\0\0\0");
  EXPECT_EQ(decode(guest, xcr0_avx).hypervisor, "KVM");
  guest[{0x40000000, 0}] = signature("SomethingNew");
  EXPECT_EQ(decode(guest, xcr0_avx).hypervisor, "SomethingNew");
  guest[{0x40000000, 0}] = signature("\xff\x01stranger!!");
  EXPECT_EQ(decode(guest, xcr0_avx).hypervisor, "??stranger!!");
}

TEST(CpuidDecode, KvmBehindHyperVsLeavesIsFound) {
  RecordedLeaves guest = vm::recorded::zen_under_hyper_v;
  guest[{0x40000100, 0}] = signature("KVMKVMKVM\0\0\0");
  EXPECT_EQ(decode(guest, xcr0_avx).hypervisor, "KVM");
}

TEST(CpuidDecode, OperatingSystemMustSaveTheRegisters) {
  const CpuFeatures no_zmm = decode(vm::recorded::sapphire_rapids, xcr0_avx);
  expect_all(no_zmm, haswell_set);
  expect_none(no_zmm, {F::avx512f, F::avx512_fp16, F::amx_tile});
  EXPECT_TRUE(no_zmm.disabled[static_cast<std::size_t>(F::avx512f)]);
  EXPECT_TRUE(no_zmm.disabled[static_cast<std::size_t>(F::amx_tile)]);
  EXPECT_TRUE((no_zmm.disabled & no_zmm.usable).none());

  const CpuFeatures no_ymm = decode(vm::recorded::sapphire_rapids, 0x3);
  expect_none(no_ymm, {F::avx, F::avx2, F::fma, F::vaes, F::avx512f});
  expect_all(no_ymm, {F::sse4_2, F::aes, F::bmi2, F::gfni});
  // AVX-512 needs the lower halves of the registers too.
  expect_none(decode(vm::recorded::sapphire_rapids, 0xe3), {F::avx512f});
}

TEST(CpuidDecode, WithoutOsxsaveXcr0IsNotAsked) {
  RecordedLeaves leaves = vm::recorded::haswell;
  leaves[{1, 0}].ecx &= ~(1U << 27);
  const CpuFeatures features = vm::decode_cpuid({[&leaves](std::uint32_t leaf, std::uint32_t subleaf) {
                                                   const auto found = leaves.find({leaf, subleaf});
                                                   return found == leaves.end() ? CpuidRegisters{} : found->second;
                                                 },
                                                 []() -> std::uint64_t {
                                                   ADD_FAILURE() << "XGETBV would be an illegal instruction here";
                                                   return 0;
                                                 }});
  expect_none(features, {F::avx, F::xsave});
  EXPECT_TRUE(features.disabled[static_cast<std::size_t>(F::avx)]);
}

TEST(CpuidDecode, LeavesThatDoNotExistAreNotBelieved) {
  // Beyond the last leaf Intel processors repeat another one, here with every bit set.
  const CpuFeatures features = vm::decode_cpuid({[](std::uint32_t leaf, std::uint32_t subleaf) -> CpuidRegisters {
                                                   if (leaf == 0) return {1, 0, 0, 0};
                                                   if (leaf == 1 && subleaf == 0) return {};
                                                   if (leaf == 0x80000000) return {0x80000000, 0, 0, 0};
                                                   return {~0U, ~0U, ~0U, ~0U};
                                                 },
                                                 [] { return ~std::uint64_t{0}; }});
  EXPECT_TRUE(features.usable.none());
  EXPECT_EQ(features.physical_bits, std::nullopt);
  EXPECT_EQ(features.brand, "");
}

TEST(CpuidDecode, OldProcessorWithFamilyFifteen) {
  RecordedLeaves leaves = vm::recorded::haswell;
  leaves[{1, 0}].eax = 0x00000f4a;  // Pentium 4: no extended family, no extended model
  const CpuFeatures features = decode(leaves, xcr0_avx);
  EXPECT_EQ(features.family, 15U);
  EXPECT_EQ(features.model, 4U);
  EXPECT_EQ(features.stepping, 10U);
}

constexpr std::uint64_t bit(unsigned position) { return std::uint64_t{1} << position; }

TEST(ArmDecode, CortexA53) {
  // Linux on a Raspberry Pi 3: fp asimd evtstrm crc32 cpuid.
  const CpuFeatures features =
      vm::decode_arm({0x887, 0, std::nullopt, 0x410fd034, std::vector<std::string>{"armv8_cortex_a53", "software"}});
  EXPECT_EQ(features.architecture, vm::Architecture::aarch64);
  EXPECT_EQ(features.vendor, "Arm");
  EXPECT_EQ(features.model, 0xd03U);
  EXPECT_EQ(features.stepping, 4U);
  EXPECT_EQ(features.family, std::nullopt);
  EXPECT_EQ(features.physical_bits, std::nullopt);
  expect_all(features, {F::neon, F::crc32, F::pmu});
  expect_none(features, {F::aes, F::lse, F::sve, F::spe, F::vhe});
}

TEST(ArmDecode, NeoverseV1) {
  const std::uint64_t hwcap = 0x7fffffff | bit(31);
  const CpuFeatures features = vm::decode_arm({hwcap, bit(0) | bit(8) | bit(13) | bit(14) | bit(16), 32U, 0x411fd401,
                                               std::vector<std::string>{"armv8_pmuv3_0", "arm_spe_0"}});
  expect_all(features, {F::neon, F::sve, F::lse, F::lse2, F::aes, F::pmull, F::sha1, F::sha2, F::sha512, F::sha3,
                        F::pauth, F::fp16, F::dotprod, F::bf16, F::i8mm, F::rng, F::pmu, F::spe});
  expect_none(features, {F::sve2, F::mte, F::sme});
  EXPECT_EQ(features.sve_vector_bytes, 32U);
}

TEST(ArmDecode, WhatAProgramCannotSeeIsUnknownNotAbsent) {
  const CpuFeatures features = vm::decode_arm({});
  for (const F feature : {F::vhe, F::pmu, F::spe}) {
    EXPECT_FALSE(features.has(feature));
    EXPECT_TRUE(features.unknown[static_cast<std::size_t>(feature)]) << name(feature);
  }
  EXPECT_TRUE(features.usable.none());
  EXPECT_EQ(features.vendor, "");
  EXPECT_FALSE(vm::decode_arm({0, 0, std::nullopt, std::nullopt, std::vector<std::string>{}})
                   .unknown[static_cast<std::size_t>(F::spe)]);
}

TEST(ArmDecode, FeaturesOfTwoBitsNeedBoth) {
  expect_none(vm::decode_arm({bit(9), 0, {}, {}, {}}), {F::fp16});
  expect_none(vm::decode_arm({bit(31), 0, {}, {}, {}}), {F::pauth});
  expect_all(vm::decode_arm({bit(9) | bit(10), 0, {}, {}, {}}), {F::fp16});
}

TEST(ArmDecode, VectorLengthOnlyWithSve) {
  EXPECT_EQ(vm::decode_arm({0, 0, 64U, {}, {}}).sve_vector_bytes, std::nullopt);
  EXPECT_EQ(vm::decode_arm({bit(22), 0, 64U, {}, {}}).sve_vector_bytes, 64U);
}

TEST(ArmDecode, UnknownImplementerIsShownAsItsCode) {
  EXPECT_EQ(vm::decode_arm({0, 0, {}, 0x770fd034, {}}).vendor, "0x77");
}

TEST(ArmDecode, MacSysctl) {
  const CpuFeatures features = vm::decode_arm_sysctl([](const char* name) -> std::optional<std::uint64_t> {
    const std::string text = name;
    if (text == "hw.optional.arm.FEAT_LSE" || text == "hw.optional.AdvSIMD") return 1;
    if (text == "hw.optional.arm.FEAT_SME") return 0;
    return std::nullopt;
  });
  EXPECT_EQ(features.vendor, "Apple");
  EXPECT_EQ(features.usable.count(), 2U);
  expect_all(features, {F::lse, F::neon});
  EXPECT_TRUE(features.unknown[static_cast<std::size_t>(F::vhe)]);
}

TEST(CpuFeatures, GeneratorsThatTheKernelWithdrewAreDisabled) {
  CpuFeatures all;
  for (const F feature : {F::rdrand, F::rdseed, F::avx2}) all.usable.set(static_cast<std::size_t>(feature));

  CpuFeatures features = all;
  vm::withdraw_broken(features, "processor\t: 0\nflags\t\t: fpu rdrand rdseedling\nbugs\t\t: rdseed \n");
  expect_none(features, {F::rdseed});
  expect_all(features, {F::rdrand, F::avx2});
  EXPECT_TRUE(features.disabled[static_cast<std::size_t>(F::rdseed)]);

  for (const char* harmless :
       {"", "processor : 0\n", "processor : 0\nflags : rdseed rdrand", "x\nflags : rdrand rdseed\n"}) {
    features = all;
    vm::withdraw_broken(features, harmless);
    EXPECT_EQ(features.usable, all.usable) << harmless;
  }

  features = CpuFeatures{};
  vm::withdraw_broken(features, "processor\t: 0\nflags\t\t: fpu\n");
  EXPECT_TRUE(features.disabled.none()) << "what the processor never had is not disabled";
}

TEST(CpuFeatures, CacheBytesSkipsInstructionCaches) {
  CpuFeatures features;
  features.caches = {{1, vm::CacheType::instruction, 32768, 64, 8, {0}}, {1, vm::CacheType::data, 49152, 64, 12, {0}}};
  EXPECT_EQ(features.cache_bytes(1), 49152U);
  EXPECT_EQ(features.cache_bytes(3), 0U);
}

#if defined(__x86_64__) && defined(__GNUC__)
TEST(CpuFeatures, AgreesWithTheCompilersOwnDetection) {
  const CpuFeatures features = CpuFeatures::detect();
  EXPECT_EQ(features.has(F::sse4_2), __builtin_cpu_supports("sse4.2") != 0);
  EXPECT_EQ(features.has(F::popcnt), __builtin_cpu_supports("popcnt") != 0);
  EXPECT_EQ(features.has(F::avx), __builtin_cpu_supports("avx") != 0);
  EXPECT_EQ(features.has(F::avx2), __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(features.has(F::fma), __builtin_cpu_supports("fma") != 0);
  EXPECT_EQ(features.has(F::bmi2), __builtin_cpu_supports("bmi2") != 0);
  EXPECT_EQ(features.has(F::aes), __builtin_cpu_supports("aes") != 0);
  EXPECT_EQ(features.has(F::avx512f), __builtin_cpu_supports("avx512f") != 0);
  EXPECT_EQ(features.has(F::avx512dq), __builtin_cpu_supports("avx512dq") != 0);
  EXPECT_EQ(features.has(F::avx512vl), __builtin_cpu_supports("avx512vl") != 0);
  EXPECT_EQ(features.has(F::avx512_vbmi2), __builtin_cpu_supports("avx512vbmi2") != 0);
  EXPECT_EQ(features.has(F::gfni), __builtin_cpu_supports("gfni") != 0);
}
#endif

}  // namespace
