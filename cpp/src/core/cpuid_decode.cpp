// CPUID leaves to features. Bit positions: Intel SDM vol. 2A (CPUID), AMD APM vol. 3 appendix E.

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "vm/core/cpu_features.hpp"

namespace vm {

namespace {

using F = CpuFeature;

enum class Register : std::uint8_t { eax, ebx, ecx, edx };

/// What the operating system must have switched on before a program may use the feature.
enum class Gate : std::uint8_t { none, osxsave, avx, avx512, amx, ospke };

struct Row {
  CpuFeature feature;
  std::uint32_t leaf;
  std::uint32_t subleaf;
  Register reg;
  std::uint8_t bit;
  Gate gate = Gate::none;
};

constexpr Register eax = Register::eax, ebx = Register::ebx, ecx = Register::ecx, edx = Register::edx;

constexpr Row rows[] = {
    {F::clflush, 1, 0, edx, 19},
    {F::sse, 1, 0, edx, 25},
    {F::sse2, 1, 0, edx, 26},
    {F::sse3, 1, 0, ecx, 0},
    {F::pclmulqdq, 1, 0, ecx, 1},
    {F::vmx, 1, 0, ecx, 5},
    {F::ssse3, 1, 0, ecx, 9},
    {F::fma, 1, 0, ecx, 12, Gate::avx},
    {F::cmpxchg16b, 1, 0, ecx, 13},
    {F::pcid, 1, 0, ecx, 17},
    {F::sse4_1, 1, 0, ecx, 19},
    {F::sse4_2, 1, 0, ecx, 20},
    {F::x2apic, 1, 0, ecx, 21},
    {F::movbe, 1, 0, ecx, 22},
    {F::popcnt, 1, 0, ecx, 23},
    {F::aes, 1, 0, ecx, 25},
    {F::xsave, 1, 0, ecx, 26, Gate::osxsave},
    {F::avx, 1, 0, ecx, 28, Gate::avx},
    {F::f16c, 1, 0, ecx, 29, Gate::avx},
    {F::rdrand, 1, 0, ecx, 30},
    {F::hypervisor, 1, 0, ecx, 31},

    {F::bmi1, 7, 0, ebx, 3},
    {F::hle, 7, 0, ebx, 4},
    {F::avx2, 7, 0, ebx, 5, Gate::avx},
    {F::smep, 7, 0, ebx, 7},
    {F::bmi2, 7, 0, ebx, 8},
    {F::erms, 7, 0, ebx, 9},
    {F::invpcid, 7, 0, ebx, 10},
    {F::rtm, 7, 0, ebx, 11},
    {F::avx512f, 7, 0, ebx, 16, Gate::avx512},
    {F::avx512dq, 7, 0, ebx, 17, Gate::avx512},
    {F::rdseed, 7, 0, ebx, 18},
    {F::adx, 7, 0, ebx, 19},
    {F::smap, 7, 0, ebx, 20},
    {F::avx512ifma, 7, 0, ebx, 21, Gate::avx512},
    {F::clflushopt, 7, 0, ebx, 23},
    {F::clwb, 7, 0, ebx, 24},
    {F::avx512pf, 7, 0, ebx, 26, Gate::avx512},
    {F::avx512er, 7, 0, ebx, 27, Gate::avx512},
    {F::avx512cd, 7, 0, ebx, 28, Gate::avx512},
    {F::sha, 7, 0, ebx, 29},
    {F::avx512bw, 7, 0, ebx, 30, Gate::avx512},
    {F::avx512vl, 7, 0, ebx, 31, Gate::avx512},

    {F::avx512vbmi, 7, 0, ecx, 1, Gate::avx512},
    {F::umip, 7, 0, ecx, 2},
    {F::pku, 7, 0, ecx, 3, Gate::ospke},
    {F::waitpkg, 7, 0, ecx, 5},
    {F::avx512_vbmi2, 7, 0, ecx, 6, Gate::avx512},
    {F::gfni, 7, 0, ecx, 8},
    {F::vaes, 7, 0, ecx, 9, Gate::avx},
    {F::vpclmulqdq, 7, 0, ecx, 10, Gate::avx},
    {F::avx512_vnni, 7, 0, ecx, 11, Gate::avx512},
    {F::avx512_bitalg, 7, 0, ecx, 12, Gate::avx512},
    {F::avx512_vpopcntdq, 7, 0, ecx, 14, Gate::avx512},
    {F::la57, 7, 0, ecx, 16},
    {F::rdpid, 7, 0, ecx, 22},
    {F::cldemote, 7, 0, ecx, 25},
    {F::movdiri, 7, 0, ecx, 27},
    {F::movdir64b, 7, 0, ecx, 28},
    {F::pks, 7, 0, ecx, 31},

    {F::avx512_4vnniw, 7, 0, edx, 2, Gate::avx512},
    {F::avx512_4fmaps, 7, 0, edx, 3, Gate::avx512},
    {F::fsrm, 7, 0, edx, 4},
    {F::avx512_vp2intersect, 7, 0, edx, 8, Gate::avx512},
    {F::serialize, 7, 0, edx, 14},
    {F::amx_bf16, 7, 0, edx, 22, Gate::amx},
    {F::avx512_fp16, 7, 0, edx, 23, Gate::avx512},
    {F::amx_tile, 7, 0, edx, 24, Gate::amx},
    {F::amx_int8, 7, 0, edx, 25, Gate::amx},

    {F::sha512, 7, 1, eax, 0, Gate::avx},
    {F::sm3, 7, 1, eax, 1, Gate::avx},
    {F::sm4, 7, 1, eax, 2, Gate::avx},
    {F::avx_vnni, 7, 1, eax, 4, Gate::avx},
    {F::avx512_bf16, 7, 1, eax, 5, Gate::avx512},
    {F::fzrm, 7, 1, eax, 10},
    {F::fsrs, 7, 1, eax, 11},
    {F::fsrc, 7, 1, eax, 12},
    {F::amx_fp16, 7, 1, eax, 21, Gate::amx},
    {F::avx_ifma, 7, 1, eax, 23, Gate::avx},
    {F::avx_vnni_int8, 7, 1, edx, 4, Gate::avx},
    {F::avx_ne_convert, 7, 1, edx, 5, Gate::avx},
    {F::avx_vnni_int16, 7, 1, edx, 10, Gate::avx},

    {F::svm, 0x80000001, 0, ecx, 2},
    {F::lzcnt, 0x80000001, 0, ecx, 5},
    {F::sse4a, 0x80000001, 0, ecx, 6},
    {F::prefetchw, 0x80000001, 0, ecx, 8},
    {F::xop, 0x80000001, 0, ecx, 11, Gate::avx},
    {F::fma4, 0x80000001, 0, ecx, 16, Gate::avx},
    {F::nx, 0x80000001, 0, edx, 20},
    {F::gigabyte_pages, 0x80000001, 0, edx, 26},
    {F::rdtscp, 0x80000001, 0, edx, 27},
    {F::invariant_tsc, 0x80000007, 0, edx, 8},
    {F::clzero, 0x80000008, 0, ebx, 0},
    {F::wbnoinvd, 0x80000008, 0, ebx, 9},
};

/// Answers zeros for leaves and subleaves that do not exist; the processor itself would repeat another leaf there.
/// Asks for each leaf once: in a guest every CPUID instruction is an exit to the hypervisor.
class Leaves {
 public:
  explicit Leaves(const CpuidSource& source)
      : source_(source),
        basic_(source.leaf(0, 0).eax),
        extended_(source.leaf(0x80000000, 0).eax),
        subleaves_of_7_(basic_ >= 7 ? source.leaf(7, 0).eax : 0) {}

  CpuidRegisters operator()(std::uint32_t leaf, std::uint32_t subleaf = 0) const {
    const bool exists = leaf >= 0x80000000 ? leaf <= extended_ : leaf <= basic_;
    if (!exists || (leaf == 7 && subleaf > subleaves_of_7_)) return {};
    const auto [entry, is_new] = known_.try_emplace({leaf, subleaf});
    if (is_new) entry->second = source_.leaf(leaf, subleaf);
    return entry->second;
  }

 private:
  const CpuidSource& source_;
  mutable std::map<std::pair<std::uint32_t, std::uint32_t>, CpuidRegisters> known_;
  std::uint32_t basic_, extended_, subleaves_of_7_;
};

bool bit(std::uint64_t word, unsigned position) { return ((word >> position) & 1) != 0; }

std::uint32_t value_of(const CpuidRegisters& registers, Register reg) {
  switch (reg) {
    case Register::eax: return registers.eax;
    case Register::ebx: return registers.ebx;
    case Register::ecx: return registers.ecx;
    case Register::edx: return registers.edx;
  }
  return 0;
}

/// Register words as the text that they spell, up to the first zero byte, without surrounding spaces. A hypervisor may
/// put any bytes there; those that are not printable become '?'.
template <class... Words>
std::string text_of(Words... words) {
  const std::uint32_t values[] = {words...};
  std::string text;
  for (const std::uint32_t word : values) {
    for (unsigned shift = 0; shift < 32; shift += 8) {
      const std::uint32_t byte = (word >> shift) & 0xff;
      text += byte == 0 || (byte >= 0x20 && byte < 0x7f) ? static_cast<char>(byte) : '?';
    }
  }
  text.resize(std::min(text.find('\0'), text.size()));
  const std::size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

std::string brand_of(const Leaves& leaves) {
  const CpuidRegisters a = leaves(0x80000002), b = leaves(0x80000003), c = leaves(0x80000004);
  return text_of(a.eax, a.ebx, a.ecx, a.edx, b.eax, b.ebx, b.ecx, b.edx, c.eax, c.ebx, c.ecx, c.edx);
}

std::string hypervisor_name(const std::string& signature) {
  static constexpr struct {
    const char* signature;
    const char* name;
  } known[] = {{"KVMKVMKVM", "KVM"},           {"Microsoft Hv", "Hyper-V"},  {"VMwareVMware", "VMware"},
               {"XenVMMXenVMM", "Xen"},        {"TCGTCGTCGTCG", "QEMU TCG"}, {"bhyve bhyve", "bhyve"},
               {"VBoxVBoxVBox", "VirtualBox"}, {"ACRNACRNACRN", "ACRN"},     {"prl hyperv", "Parallels"},
               {"lrpepyh vr", "Parallels"},    {"Linux KVM Hv", "KVM"},      {"QNXQVMBSQG", "QNX"},
               {"HAXMHAXMHAXM", "HAXM"},       {"___ NVMM ___", "NVMM"},     {"OpenBSDVMM58", "OpenBSD VMM"}};
  for (const auto& entry : known) {
    if (signature == entry.signature) return entry.name;
  }
  return signature;
}

std::string hypervisor_of(const CpuidSource& source) {
  const auto signature_at = [&](std::uint32_t leaf) {
    const CpuidRegisters r = source.leaf(leaf, 0);
    return hypervisor_name(text_of(r.ebx, r.ecx, r.edx));
  };
  // KVM and Xen step aside to the next base when they also speak Hyper-V's language for Windows guests.
  const std::string first = signature_at(0x40000000);
  if (first == "Hyper-V") {
    const std::string second = signature_at(0x40000100);
    if (second == "KVM" || second == "Xen") return second;
  }
  return first;
}

void decode_version(std::uint32_t signature, CpuFeatures& features) {
  const std::uint32_t family = (signature >> 8) & 0xf;
  const std::uint32_t model = (signature >> 4) & 0xf;
  const bool extended_model = family == 0x6 || family == 0xf;
  features.family = family == 0xf ? family + ((signature >> 20) & 0xff) : family;
  features.model = extended_model ? model + (((signature >> 16) & 0xf) << 4) : model;
  features.stepping = signature & 0xf;
}

void decode_address_bits(const Leaves& leaves, CpuFeatures& features) {
  const std::uint32_t widths = leaves(0x80000008).eax;
  if (widths == 0) return;
  features.physical_bits = static_cast<int>(widths & 0xff);
  features.virtual_bits = static_cast<int>((widths >> 8) & 0xff);
}

class Gates {
 public:
  Gates(const CpuidSource& source, const Leaves& leaves)
      : osxsave_(bit(leaves(1).ecx, 27)), ospke_(bit(leaves(7).ecx, 4)), xcr0_(osxsave_ ? source.xcr0() : 0) {}

  bool open(Gate gate) const {
    // XCR0: SSE 1, AVX 2; opmask 5, ZMM_Hi256 6, Hi16_ZMM 7; tile configuration 17, tile data 18.
    constexpr std::uint64_t avx = 0x6, avx512 = avx | 0xe0, amx = 0x60000;
    switch (gate) {
      case Gate::none: return true;
      case Gate::osxsave: return osxsave_;
      case Gate::avx: return (xcr0_ & avx) == avx;
      case Gate::avx512: return (xcr0_ & avx512) == avx512;
      case Gate::amx: return (xcr0_ & amx) == amx;
      case Gate::ospke: return ospke_;
    }
    return false;
  }

 private:
  bool osxsave_, ospke_;
  std::uint64_t xcr0_;
};

}  // namespace

CpuFeatures decode_cpuid(const CpuidSource& source) {
  const Leaves leaves(source);
  CpuFeatures features;
  features.architecture = Architecture::x86_64;
  const CpuidRegisters identity = leaves(0);
  features.vendor = text_of(identity.ebx, identity.edx, identity.ecx);
  features.brand = brand_of(leaves);
  decode_version(leaves(1).eax, features);
  decode_address_bits(leaves, features);

  const Gates gates(source, leaves);
  for (const Row& row : rows) {
    if (!bit(value_of(leaves(row.leaf, row.subleaf), row.reg), row.bit)) continue;
    (gates.open(row.gate) ? features.usable : features.disabled).set(static_cast<std::size_t>(row.feature));
  }
  if (features.has(CpuFeature::hypervisor)) features.hypervisor = hypervisor_of(source);
  return features;
}

void withdraw_broken(CpuFeatures& features, std::string_view cpuinfo) {
  const std::size_t line = cpuinfo.find("\nflags");
  if (line == std::string_view::npos) return;
  // With spaces around it, a word is found as a whole.
  std::string words(cpuinfo.substr(line + 1, cpuinfo.find('\n', line + 1) - line - 1));
  words += ' ';
  for (const CpuFeature feature : {F::rdrand, F::rdseed}) {
    const bool listed = words.find(" " + std::string(name(feature)) + " ") != std::string::npos;
    const auto index = static_cast<std::size_t>(feature);
    if (listed || !features.usable[index]) continue;
    features.usable.reset(index);
    features.disabled.set(index);
  }
}

}  // namespace vm
