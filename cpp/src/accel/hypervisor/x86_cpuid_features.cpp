// Features by name. Bit positions: Intel SDM vol. 2A (CPUID), AMD APM vol. 3 appendix E.

#include <algorithm>
#include <cstddef>
#include <string>

#include "vm/accel/hypervisor/x86_cpuid.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

constexpr CpuidRegister eax = CpuidRegister::eax, ebx = CpuidRegister::ebx, ecx = CpuidRegister::ecx,
                        edx = CpuidRegister::edx;

constexpr std::uint32_t CpuidEntry::*members[] = {&CpuidEntry::eax, &CpuidEntry::ebx, &CpuidEntry::ecx,
                                                  &CpuidEntry::edx};

std::uint32_t& value_of(CpuidEntry& entry, CpuidRegister reg) { return entry.*members[static_cast<std::size_t>(reg)]; }
std::uint32_t value_of(const CpuidEntry& entry, CpuidRegister reg) {
  return entry.*members[static_cast<std::size_t>(reg)];
}

const CpuidFeature& feature_called(std::string_view name) {
  for (const CpuidFeature& feature : cpuid_features()) {
    if (name == feature.name) return feature;
  }
  throw InvalidConfig("no CPUID feature is known as \"" + std::string(name) +
                      "\"; cpuid_features() lists those that are, and every bit can be set in its entry");
}

/// A register of which every bit, as far as it is known, is a feature; what no machine has reads as zero there.
struct FeatureWord {
  std::uint32_t function;
  std::uint32_t index;
  CpuidRegister reg;
};

constexpr FeatureWord feature_words[] = {
    {1, 0, ecx},           {1, 0, edx},           {6, 0, eax},           {7, 0, ebx},           {7, 0, ecx},
    {7, 0, edx},           {7, 1, eax},           {7, 1, ebx},           {7, 1, ecx},           {7, 1, edx},
    {7, 2, edx},           {0xD, 0, eax},         {0xD, 1, eax},         {0x8000'0001, 0, ecx}, {0x8000'0001, 0, edx},
    {0x8000'0007, 0, edx}, {0x8000'0008, 0, ebx}, {0x8000'0021, 0, eax}, {0x4000'0001, 0, eax},
};

}  // namespace

const std::vector<CpuidFeature>& cpuid_features() {
  static const std::vector<CpuidFeature> features = {
      {"fpu", 1, 0, edx, 0},
      {"vme", 1, 0, edx, 1},
      {"de", 1, 0, edx, 2},
      {"pse", 1, 0, edx, 3},
      {"tsc", 1, 0, edx, 4},
      {"msr", 1, 0, edx, 5},
      {"pae", 1, 0, edx, 6},
      {"mce", 1, 0, edx, 7},
      {"cx8", 1, 0, edx, 8},
      {"apic", 1, 0, edx, 9},
      {"sep", 1, 0, edx, 11},
      {"mtrr", 1, 0, edx, 12},
      {"pge", 1, 0, edx, 13},
      {"mca", 1, 0, edx, 14},
      {"cmov", 1, 0, edx, 15},
      {"pat", 1, 0, edx, 16},
      {"pse36", 1, 0, edx, 17},
      {"clflush", 1, 0, edx, 19},
      {"mmx", 1, 0, edx, 23},
      {"fxsr", 1, 0, edx, 24},
      {"sse", 1, 0, edx, 25},
      {"sse2", 1, 0, edx, 26},
      {"ht", 1, 0, edx, 28},
      {"sse3", 1, 0, ecx, 0},
      {"pclmulqdq", 1, 0, ecx, 1},
      {"monitor", 1, 0, ecx, 3},
      {"vmx", 1, 0, ecx, 5},
      {"ssse3", 1, 0, ecx, 9},
      {"fma", 1, 0, ecx, 12},
      {"cmpxchg16b", 1, 0, ecx, 13},
      {"pdcm", 1, 0, ecx, 15},
      {"pcid", 1, 0, ecx, 17},
      {"sse4_1", 1, 0, ecx, 19},
      {"sse4_2", 1, 0, ecx, 20},
      {"x2apic", 1, 0, ecx, 21},
      {"movbe", 1, 0, ecx, 22},
      {"popcnt", 1, 0, ecx, 23},
      {"tsc_deadline_timer", 1, 0, ecx, 24},
      {"aes", 1, 0, ecx, 25},
      {"xsave", 1, 0, ecx, 26},
      {"osxsave", 1, 0, ecx, 27},
      {"avx", 1, 0, ecx, 28},
      {"f16c", 1, 0, ecx, 29},
      {"rdrand", 1, 0, ecx, 30},
      {"hypervisor", 1, 0, ecx, 31},
      {"arat", 6, 0, eax, 2},
      {"fsgsbase", 7, 0, ebx, 0},
      {"tsc_adjust", 7, 0, ebx, 1},
      {"bmi1", 7, 0, ebx, 3},
      {"hle", 7, 0, ebx, 4},
      {"avx2", 7, 0, ebx, 5},
      {"smep", 7, 0, ebx, 7},
      {"bmi2", 7, 0, ebx, 8},
      {"erms", 7, 0, ebx, 9},
      {"invpcid", 7, 0, ebx, 10},
      {"rtm", 7, 0, ebx, 11},
      {"avx512f", 7, 0, ebx, 16},
      {"avx512dq", 7, 0, ebx, 17},
      {"rdseed", 7, 0, ebx, 18},
      {"adx", 7, 0, ebx, 19},
      {"smap", 7, 0, ebx, 20},
      {"avx512ifma", 7, 0, ebx, 21},
      {"clflushopt", 7, 0, ebx, 23},
      {"clwb", 7, 0, ebx, 24},
      {"avx512cd", 7, 0, ebx, 28},
      {"sha", 7, 0, ebx, 29},
      {"avx512bw", 7, 0, ebx, 30},
      {"avx512vl", 7, 0, ebx, 31},
      {"avx512vbmi", 7, 0, ecx, 1},
      {"umip", 7, 0, ecx, 2},
      {"pku", 7, 0, ecx, 3},
      {"ospke", 7, 0, ecx, 4},
      {"waitpkg", 7, 0, ecx, 5},
      {"avx512_vbmi2", 7, 0, ecx, 6},
      {"gfni", 7, 0, ecx, 8},
      {"vaes", 7, 0, ecx, 9},
      {"vpclmulqdq", 7, 0, ecx, 10},
      {"avx512_vnni", 7, 0, ecx, 11},
      {"avx512_bitalg", 7, 0, ecx, 12},
      {"avx512_vpopcntdq", 7, 0, ecx, 14},
      {"la57", 7, 0, ecx, 16},
      {"rdpid", 7, 0, ecx, 22},
      {"movdiri", 7, 0, ecx, 27},
      {"movdir64b", 7, 0, ecx, 28},
      {"pks", 7, 0, ecx, 31},
      {"fsrm", 7, 0, edx, 4},
      {"serialize", 7, 0, edx, 14},
      {"amx_bf16", 7, 0, edx, 22},
      {"avx512_fp16", 7, 0, edx, 23},
      {"amx_tile", 7, 0, edx, 24},
      {"amx_int8", 7, 0, edx, 25},
      {"spec_ctrl", 7, 0, edx, 26},
      {"arch_capabilities", 7, 0, edx, 29},
      {"avx_vnni", 7, 1, eax, 4},
      {"avx512_bf16", 7, 1, eax, 5},
      {"xsaveopt", 0xD, 1, eax, 0},
      {"xsavec", 0xD, 1, eax, 1},
      {"xsaves", 0xD, 1, eax, 3},
      {"kvmclock", 0x4000'0001, 0, eax, 3},
      {"kvm_async_pf", 0x4000'0001, 0, eax, 4},
      {"kvm_steal_time", 0x4000'0001, 0, eax, 5},
      {"kvm_pv_eoi", 0x4000'0001, 0, eax, 6},
      {"lahf_lm", 0x8000'0001, 0, ecx, 0},
      {"svm", 0x8000'0001, 0, ecx, 2},
      {"lzcnt", 0x8000'0001, 0, ecx, 5},
      {"sse4a", 0x8000'0001, 0, ecx, 6},
      {"prefetchw", 0x8000'0001, 0, ecx, 8},
      {"topoext", 0x8000'0001, 0, ecx, 22},
      {"syscall", 0x8000'0001, 0, edx, 11},
      {"nx", 0x8000'0001, 0, edx, 20},
      {"gigabyte_pages", 0x8000'0001, 0, edx, 26},
      {"rdtscp", 0x8000'0001, 0, edx, 27},
      {"lm", 0x8000'0001, 0, edx, 29},
      {"invariant_tsc", 0x8000'0007, 0, edx, 8},
      {"clzero", 0x8000'0008, 0, ebx, 0},
      {"wbnoinvd", 0x8000'0008, 0, ebx, 9},
  };
  return features;
}

bool CpuidTable::has(std::string_view name) const {
  const CpuidFeature& feature = feature_called(name);
  const CpuidEntry* entry = find(feature.function, feature.index);
  return entry != nullptr && (value_of(*entry, feature.reg) >> feature.bit & 1) != 0;
}

void CpuidTable::set_feature(std::string_view name, bool on) {
  const CpuidFeature& feature = feature_called(name);
  CpuidEntry* entry = find(feature.function, feature.index);
  if (entry == nullptr) {
    if (!on) return;
    throw OutOfRange("the table has no CPUID " + hex(feature.function) + "." + std::to_string(feature.index) +
                         ", which holds " + feature.name + "; add that entry first",
                     feature.function, 1);
  }
  const std::uint32_t bit = std::uint32_t{1} << feature.bit;
  std::uint32_t& word = value_of(*entry, feature.reg);
  word = on ? word | bit : word & ~bit;
}

void CpuidTable::intersect(const CpuidTable& other) {
  for (const FeatureWord& word : feature_words) {
    CpuidEntry* entry = find(word.function, word.index);
    if (entry == nullptr) continue;
    const CpuidEntry* theirs = other.find(word.function, word.index);
    value_of(*entry, word.reg) &= theirs == nullptr ? 0 : value_of(*theirs, word.reg);
  }
}

CpuidTable CpuidTable::minimal(const CpuidTable& supported) {
  // x86-64-v1, what every kernel needs beside it (PSE, MSR, PAE, MCE, MTRR, PGE, MCA, PAT), and what concerns guests.
  static constexpr const char* wanted[] = {
      "fpu", "vme",  "de",  "pse",   "tsc",     "msr", "pae",  "mce", "cx8",  "apic",       "sep",     "mtrr", "pge",
      "mca", "cmov", "pat", "pse36", "clflush", "mmx", "fxsr", "sse", "sse2", "hypervisor", "syscall", "nx",   "lm"};
  CpuidTable table;
  for (const std::uint32_t function : {0U, 1U, 0x4000'0000U, 0x4000'0001U, 0x8000'0000U, 0x8000'0001U, 0x8000'0008U}) {
    const CpuidEntry* entry = supported.find(function);
    if (entry != nullptr) table.set(*entry);
  }
  if (CpuidEntry* vendor = table.find(0)) vendor->eax = 1;
  if (CpuidEntry* extended = table.find(0x8000'0000)) extended->eax = 0x8000'0008;
  if (CpuidEntry* sizes = table.find(0x8000'0008)) sizes->ebx = sizes->ecx = sizes->edx = 0;
  for (const FeatureWord& word : feature_words) {
    CpuidEntry* entry = table.find(word.function, word.index);
    if (entry == nullptr || word.function == 0x4000'0001) continue;
    std::uint32_t keep = 0;
    for (const char* name : wanted) {
      const CpuidFeature& feature = feature_called(name);
      if (feature.function == word.function && feature.index == word.index && feature.reg == word.reg)
        keep |= std::uint32_t{1} << feature.bit;
    }
    value_of(*entry, word.reg) &= keep;
  }
  return table;
}

}  // namespace vm::accel
