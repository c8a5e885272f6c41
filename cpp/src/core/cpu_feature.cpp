#include "vm/core/cpu_feature.hpp"

#include <array>

namespace vm {

namespace {

struct Words {
  CpuFeature feature;
  std::string_view name;
  std::string_view description;
};

constexpr std::array<Words, cpu_feature_count> words = {{
    {CpuFeature::sse, "sse", "Streaming SIMD Extensions"},
    {CpuFeature::sse2, "sse2", "SSE2"},
    {CpuFeature::sse3, "sse3", "SSE3"},
    {CpuFeature::ssse3, "ssse3", "Supplemental SSE3"},
    {CpuFeature::sse4_1, "sse4_1", "SSE4.1"},
    {CpuFeature::sse4_2, "sse4_2", "SSE4.2"},
    {CpuFeature::sse4a, "sse4a", "SSE4a (AMD)"},
    {CpuFeature::avx, "avx", "256-bit Advanced Vector Extensions"},
    {CpuFeature::avx2, "avx2", "AVX2: 256-bit integers and gathers"},
    {CpuFeature::fma, "fma", "fused multiply-add, three operands"},
    {CpuFeature::fma4, "fma4", "fused multiply-add, four operands (AMD)"},
    {CpuFeature::xop, "xop", "extended operations (AMD)"},
    {CpuFeature::f16c, "f16c", "half-precision conversion"},
    {CpuFeature::avx_vnni, "avx_vnni", "VEX-encoded neural network dot products"},
    {CpuFeature::avx_vnni_int8, "avx_vnni_int8", "VEX-encoded 8-bit dot products, all signs"},
    {CpuFeature::avx_vnni_int16, "avx_vnni_int16", "VEX-encoded 16-bit dot products"},
    {CpuFeature::avx_ifma, "avx_ifma", "VEX-encoded 52-bit integer multiply-add"},
    {CpuFeature::avx_ne_convert, "avx_ne_convert", "bfloat16 and half-precision conversion without exceptions"},
    {CpuFeature::avx512f, "avx512f", "AVX-512 foundation"},
    {CpuFeature::avx512cd, "avx512cd", "AVX-512 conflict detection"},
    {CpuFeature::avx512er, "avx512er", "AVX-512 exponential and reciprocal"},
    {CpuFeature::avx512pf, "avx512pf", "AVX-512 prefetch"},
    {CpuFeature::avx512bw, "avx512bw", "AVX-512 bytes and words"},
    {CpuFeature::avx512dq, "avx512dq", "AVX-512 doublewords and quadwords"},
    {CpuFeature::avx512vl, "avx512vl", "AVX-512 on 128- and 256-bit vectors"},
    {CpuFeature::avx512ifma, "avx512ifma", "AVX-512 52-bit integer multiply-add"},
    {CpuFeature::avx512vbmi, "avx512vbmi", "AVX-512 byte permutes"},
    {CpuFeature::avx512_vbmi2, "avx512_vbmi2", "AVX-512 byte and word compress, shifts"},
    {CpuFeature::avx512_vnni, "avx512_vnni", "AVX-512 neural network dot products"},
    {CpuFeature::avx512_bitalg, "avx512_bitalg", "AVX-512 bit counts of bytes and words"},
    {CpuFeature::avx512_vpopcntdq, "avx512_vpopcntdq", "AVX-512 bit counts of doublewords and quadwords"},
    {CpuFeature::avx512_4vnniw, "avx512_4vnniw", "AVX-512 four-step neural network words"},
    {CpuFeature::avx512_4fmaps, "avx512_4fmaps", "AVX-512 four-step multiply-add"},
    {CpuFeature::avx512_vp2intersect, "avx512_vp2intersect", "AVX-512 intersection of two vectors"},
    {CpuFeature::avx512_bf16, "avx512_bf16", "AVX-512 bfloat16"},
    {CpuFeature::avx512_fp16, "avx512_fp16", "AVX-512 half precision"},
    {CpuFeature::amx_tile, "amx_tile", "AMX tiles; Linux programs must also ask by arch_prctl(ARCH_REQ_XCOMP_PERM)"},
    {CpuFeature::amx_int8, "amx_int8", "AMX 8-bit integers"},
    {CpuFeature::amx_bf16, "amx_bf16", "AMX bfloat16"},
    {CpuFeature::amx_fp16, "amx_fp16", "AMX half precision"},
    {CpuFeature::popcnt, "popcnt", "population count"},
    {CpuFeature::lzcnt, "lzcnt", "leading zero count"},
    {CpuFeature::bmi1, "bmi1", "bit manipulation, first set"},
    {CpuFeature::bmi2, "bmi2", "bit manipulation, second set"},
    {CpuFeature::adx, "adx", "add with two carry chains"},
    {CpuFeature::movbe, "movbe", "byte-swapping move"},
    {CpuFeature::cmpxchg16b, "cmpxchg16b", "16-byte compare and exchange"},
    {CpuFeature::movdiri, "movdiri", "direct stores of 4 and 8 bytes"},
    {CpuFeature::movdir64b, "movdir64b", "direct store of 64 bytes"},
    {CpuFeature::rdpid, "rdpid", "read the processor number"},
    {CpuFeature::serialize, "serialize", "SERIALIZE instruction"},
    {CpuFeature::waitpkg, "waitpkg", "UMONITOR, UMWAIT, TPAUSE"},
    {CpuFeature::aes, "aes", "AES rounds (x86 AES-NI, Armv8 cryptography)"},
    {CpuFeature::vaes, "vaes", "AES rounds on wide vectors"},
    {CpuFeature::pclmulqdq, "pclmulqdq", "carry-less multiplication"},
    {CpuFeature::vpclmulqdq, "vpclmulqdq", "carry-less multiplication on wide vectors"},
    {CpuFeature::gfni, "gfni", "Galois field instructions"},
    {CpuFeature::sha, "sha", "SHA-1 and SHA-256 (x86)"},
    {CpuFeature::sha512, "sha512", "SHA-512"},
    {CpuFeature::sm3, "sm3", "SM3 hash"},
    {CpuFeature::sm4, "sm4", "SM4 cipher"},
    {CpuFeature::rdrand, "rdrand", "hardware random numbers"},
    {CpuFeature::rdseed, "rdseed", "hardware random seeds"},
    {CpuFeature::clflush, "clflush", "flush a cache line"},
    {CpuFeature::clflushopt, "clflushopt", "flush a cache line, weakly ordered"},
    {CpuFeature::clwb, "clwb", "write a cache line back"},
    {CpuFeature::cldemote, "cldemote", "move a cache line outwards"},
    {CpuFeature::clzero, "clzero", "zero a cache line (AMD)"},
    {CpuFeature::wbnoinvd, "wbnoinvd", "write back all caches, keep lines"},
    {CpuFeature::prefetchw, "prefetchw", "prefetch for writing"},
    {CpuFeature::erms, "erms", "fast REP MOVSB and STOSB"},
    {CpuFeature::fsrm, "fsrm", "fast short REP MOVSB"},
    {CpuFeature::fzrm, "fzrm", "fast zero-length REP MOVSB"},
    {CpuFeature::fsrs, "fsrs", "fast short REP STOSB"},
    {CpuFeature::fsrc, "fsrc", "fast short REP CMPSB and SCASB"},
    {CpuFeature::xsave, "xsave", "XSAVE and XRSTOR"},
    {CpuFeature::invariant_tsc, "invariant_tsc", "the time stamp counter runs at a constant rate"},
    {CpuFeature::rdtscp, "rdtscp", "RDTSCP instruction"},
    {CpuFeature::nx, "nx", "no-execute pages"},
    {CpuFeature::gigabyte_pages, "gigabyte_pages", "1 GiB pages"},
    {CpuFeature::la57, "la57", "five-level paging"},
    {CpuFeature::pcid, "pcid", "process-context identifiers"},
    {CpuFeature::invpcid, "invpcid", "INVPCID instruction"},
    {CpuFeature::smep, "smep", "supervisor execution prevention"},
    {CpuFeature::smap, "smap", "supervisor access prevention"},
    {CpuFeature::umip, "umip", "user-mode instruction prevention"},
    {CpuFeature::pku, "pku", "protection keys for user pages"},
    {CpuFeature::pks, "pks", "protection keys for supervisor pages"},
    {CpuFeature::x2apic, "x2apic", "x2APIC"},
    {CpuFeature::hle, "hle", "hardware lock elision"},
    {CpuFeature::rtm, "rtm", "restricted transactional memory"},
    {CpuFeature::vmx, "vmx", "Intel virtualization; whether firmware left it on is the hypervisor's to say"},
    {CpuFeature::svm, "svm", "AMD virtualization; whether firmware left it on is the hypervisor's to say"},
    {CpuFeature::hypervisor, "hypervisor", "this is a guest: a hypervisor answers CPUID"},
    {CpuFeature::neon, "neon", "128-bit vectors (Advanced SIMD)"},
    {CpuFeature::fp16, "fp16", "half-precision arithmetic"},
    {CpuFeature::fhm, "fhm", "half-precision multiply-add into single"},
    {CpuFeature::bf16, "bf16", "bfloat16"},
    {CpuFeature::i8mm, "i8mm", "8-bit integer matrix multiplication"},
    {CpuFeature::dotprod, "dotprod", "8-bit integer dot products"},
    {CpuFeature::rdm, "rdm", "rounding doubling multiply-add"},
    {CpuFeature::jscvt, "jscvt", "JavaScript conversion"},
    {CpuFeature::fcma, "fcma", "complex number arithmetic"},
    {CpuFeature::frint, "frint", "rounding to 32 and 64-bit integers"},
    {CpuFeature::sve, "sve", "scalable vectors"},
    {CpuFeature::sve2, "sve2", "scalable vectors, second version"},
    {CpuFeature::sve2p1, "sve2p1", "scalable vectors 2.1"},
    {CpuFeature::sve_aes, "sve_aes", "AES rounds on scalable vectors"},
    {CpuFeature::sve_pmull, "sve_pmull", "polynomial multiplication on scalable vectors"},
    {CpuFeature::sve_bitperm, "sve_bitperm", "bit permutes on scalable vectors"},
    {CpuFeature::sve_sha3, "sve_sha3", "SHA-3 on scalable vectors"},
    {CpuFeature::sve_sm4, "sve_sm4", "SM4 on scalable vectors"},
    {CpuFeature::sve_bf16, "sve_bf16", "bfloat16 on scalable vectors"},
    {CpuFeature::sve_i8mm, "sve_i8mm", "8-bit matrix multiplication on scalable vectors"},
    {CpuFeature::sme, "sme", "scalable matrices"},
    {CpuFeature::sme2, "sme2", "scalable matrices, second version"},
    {CpuFeature::pmull, "pmull", "polynomial multiplication"},
    {CpuFeature::sha1, "sha1", "SHA-1"},
    {CpuFeature::sha2, "sha2", "SHA-256"},
    {CpuFeature::sha3, "sha3", "SHA-3"},
    {CpuFeature::crc32, "crc32", "CRC-32"},
    {CpuFeature::rng, "rng", "random numbers"},
    {CpuFeature::lse, "lse", "atomic instructions (Large System Extensions)"},
    {CpuFeature::lse2, "lse2", "atomic unaligned access within 16 bytes"},
    {CpuFeature::lse128, "lse128", "128-bit atomic instructions"},
    {CpuFeature::lrcpc, "lrcpc", "load-acquire, processor consistent"},
    {CpuFeature::lrcpc2, "lrcpc2", "load-acquire with immediate offsets"},
    {CpuFeature::dcpop, "dcpop", "clean to the point of persistence"},
    {CpuFeature::dcpodp, "dcpodp", "clean to the point of deep persistence"},
    {CpuFeature::mops, "mops", "memory copy and set instructions"},
    {CpuFeature::flagm, "flagm", "condition flag manipulation"},
    {CpuFeature::dit, "dit", "data-independent timing"},
    {CpuFeature::ssbs, "ssbs", "speculative store bypass control"},
    {CpuFeature::sb, "sb", "speculation barrier"},
    {CpuFeature::pauth, "pauth", "pointer authentication"},
    {CpuFeature::bti, "bti", "branch target identification"},
    {CpuFeature::mte, "mte", "memory tagging"},
    {CpuFeature::vhe, "vhe", "virtualization host extensions"},
    {CpuFeature::pmu, "pmu", "performance monitoring unit"},
    {CpuFeature::spe, "spe", "statistical profiling extension"},
}};

constexpr bool in_order() {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (static_cast<std::size_t>(words[i].feature) != i) return false;
  }
  return true;
}
static_assert(in_order(), "the table is indexed by the enumerator");

}  // namespace

std::string_view name(CpuFeature feature) noexcept { return words[static_cast<std::size_t>(feature)].name; }

std::string_view describe(CpuFeature feature) noexcept { return words[static_cast<std::size_t>(feature)].description; }

std::optional<CpuFeature> find_cpu_feature(std::string_view name) noexcept {
  for (const Words& entry : words) {
    if (entry.name == name) return entry.feature;
  }
  return std::nullopt;
}

}  // namespace vm
