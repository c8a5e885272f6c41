#include "vm/mem/paging/config.hpp"

#include "vm/core/error.hpp"

namespace vm::mem::paging {
namespace {

constexpr bool bit(std::uint64_t value, int n) { return (value >> n & 1) != 0; }

// TG0 and TG1 encode the same three sizes differently (Arm ARM D17.2.139).
std::uint64_t granule_from_tg0(std::uint64_t tcr) {
  switch (tcr >> 14 & 3) {
    case 0: return 4096;
    case 1: return 65536;
    case 2: return 16384;
    default: throw InvalidConfig("TCR_EL1.TG0 holds the reserved value 3; 0 is 4K, 1 is 64K, 2 is 16K");
  }
}

std::uint64_t granule_from_tg1(std::uint64_t tcr) {
  switch (tcr >> 30 & 3) {
    case 1: return 16384;
    case 2: return 4096;
    case 3: return 65536;
    default: throw InvalidConfig("TCR_EL1.TG1 holds the reserved value 0; 1 is 16K, 2 is 4K, 3 is 64K");
  }
}

const char* mode_name(RiscVMode mode) {
  switch (mode) {
    case RiscVMode::sv32: return "Sv32";
    case RiscVMode::sv39: return "Sv39";
    case RiscVMode::sv48: return "Sv48";
    case RiscVMode::sv57: return "Sv57";
  }
  return "Sv?";
}

}  // namespace

X86Config X86Config::from_registers(std::uint64_t cr0, std::uint64_t cr3, std::uint64_t cr4, std::uint64_t efer) {
  if (!bit(cr0, 31))
    throw InvalidConfig("CR0 is " + hex(cr0) + ": paging (bit 31, PG) is off, so there are no tables to walk");
  X86Config config;
  const bool pae = bit(cr4, 5);
  const bool long_mode = bit(efer, 10) || bit(efer, 8);  // LMA; LME with PG set means the same
  if (long_mode && !pae)
    throw InvalidConfig("EFER is " + hex(efer) + " (long mode) but CR4 is " + hex(cr4) +
                        " without PAE (bit 5); no processor can be in that state");
  config.levels = !pae ? 2 : !long_mode ? 3 : bit(cr4, 12) ? 5 : 4;
  config.root = config.levels == 2   ? cr3 & 0xFFFFF000
                : config.levels == 3 ? cr3 & 0xFFFFFFE0  // a PDPT needs only 32-byte alignment
                                     : cr3 & 0x000F'FFFF'FFFF'F000;
  config.write_protect = bit(cr0, 16);
  config.no_execute = bit(efer, 11);
  config.pse = bit(cr4, 4);
  config.global_pages = bit(cr4, 7);
  config.smep = bit(cr4, 20);
  config.smap = bit(cr4, 21);
  config.protection_keys = bit(cr4, 22) && config.levels >= 4;
  config.supervisor_keys = bit(cr4, 24) && config.levels >= 4;
  return config;
}

RiscVConfig RiscVConfig::from_satp(std::uint64_t satp, int xlen) {
  if (xlen != 32 && xlen != 64) throw InvalidConfig("xlen is " + std::to_string(xlen) + "; satp is 32 or 64 bits wide");
  RiscVConfig config;
  const std::uint64_t mode = xlen == 32 ? satp >> 31 & 1 : satp >> 60;
  const bool known = xlen == 32 ? mode == 1 : mode >= 8 && mode <= 10;
  if (!known)
    throw InvalidConfig("satp is " + hex(satp) + ": mode " + std::to_string(mode) +
                        (mode == 0 ? " (Bare) translates nothing" : " is reserved"));
  config.mode = static_cast<RiscVMode>(mode);
  config.root = (xlen == 32 ? satp & 0x3FFFFF : satp & 0xFFF'FFFF'FFFF) << 12;
  return config;
}

std::uint64_t AArch64Config::default_tcr(std::uint64_t granule) {
  std::uint64_t tg0 = 0;
  std::uint64_t tg1 = 2;
  if (granule == 16384) {
    tg0 = 2;
    tg1 = 1;
  } else if (granule == 65536) {
    tg0 = 1;
    tg1 = 3;
  } else if (granule != 4096) {
    throw InvalidConfig("granule is " + std::to_string(granule) + " bytes; AArch64 has 4096, 16384 and 65536");
  }
  constexpr std::uint64_t size_offset = 16;  // 64 - 16 = 48-bit halves
  constexpr std::uint64_t ips_48_bits = 5;
  return size_offset | size_offset << 16 | tg0 << 14 | tg1 << 30 | ips_48_bits << 32;
}

std::uint64_t AArch64Config::granule_of(std::uint64_t tcr) {
  const bool low_enabled = !bit(tcr, 7);
  const bool high_enabled = !bit(tcr, 23);
  if (!low_enabled) return granule_from_tg1(tcr);
  const std::uint64_t low = granule_from_tg0(tcr);
  if (high_enabled && granule_from_tg1(tcr) != low)
    throw NotSupported("TCR_EL1 is " + hex(tcr) + ": the lower half uses " + std::to_string(low) +
                       "-byte granules and the upper " + std::to_string(granule_from_tg1(tcr)) +
                       "; walk each half through its own AddressSpace with the other disabled (EPD0 or EPD1)");
  return low;
}

std::string describe(const PagingConfig& config) {
  struct Text {
    std::string operator()(const X86Config& c) const {
      const char* kind = c.levels == 2   ? "x86 32-bit"
                         : c.levels == 3 ? "x86 PAE"
                         : c.levels == 4 ? "x86 4-level"
                                         : "x86 5-level";
      return std::string(kind) + ", root " + hex(c.root);
    }
    std::string operator()(const RiscVConfig& c) const {
      return std::string("RISC-V ") + mode_name(c.mode) + ", root " + hex(c.root);
    }
    std::string operator()(const AArch64Config& c) const {
      return "AArch64 " + std::to_string(c.granule >> 10) + "K, ttbr0 " + hex(c.ttbr0) + ", ttbr1 " + hex(c.ttbr1);
    }
  };
  return std::visit(Text{}, config);
}

namespace {
constexpr std::uint64_t tbi0 = std::uint64_t{1} << 37, tbi1 = std::uint64_t{1} << 38;  // TCR_EL1
}  // namespace

bool has_tags(const PagingConfig& config) noexcept {
  const auto* arm = std::get_if<AArch64Config>(&config);
  return arm != nullptr && (arm->tcr & (tbi0 | tbi1)) != 0;
}

std::uint64_t untagged(const PagingConfig& config, std::uint64_t vaddr) noexcept {
  const auto* arm = std::get_if<AArch64Config>(&config);
  constexpr unsigned tag_bits = 8;
  const bool upper = (vaddr >> 55 & 1) != 0;
  if (arm == nullptr || (arm->tcr & (upper ? tbi1 : tbi0)) == 0) return vaddr;
  return upper ? vaddr | ~(UINT64_MAX >> tag_bits) : vaddr & (UINT64_MAX >> tag_bits);
}

bool same_but_root(const PagingConfig& a, const PagingConfig& b) noexcept {
  if (a.index() != b.index()) return false;
  if (const auto* x = std::get_if<X86Config>(&a)) {
    const auto& y = std::get<X86Config>(b);
    return x->levels == y.levels && x->write_protect == y.write_protect && x->no_execute == y.no_execute &&
           x->smep == y.smep && x->smap == y.smap && x->ac == y.ac && x->pse == y.pse &&
           x->gigabyte_pages == y.gigabyte_pages && x->protection_keys == y.protection_keys && x->pkru == y.pkru &&
           x->supervisor_keys == y.supervisor_keys && x->pkrs == y.pkrs && x->physical_bits == y.physical_bits &&
           x->global_pages == y.global_pages;
  }
  if (const auto* x = std::get_if<RiscVConfig>(&a)) {
    const auto& y = std::get<RiscVConfig>(b);
    return x->mode == y.mode && x->sum == y.sum && x->mxr == y.mxr && x->svnapot == y.svnapot &&
           x->svpbmt == y.svpbmt && x->svadu == y.svadu;
  }
  const auto& x = std::get<AArch64Config>(a);
  const auto& y = std::get<AArch64Config>(b);
  return x.granule == y.granule && x.tcr == y.tcr && x.wxn == y.wxn && x.pan == y.pan &&
         x.physical_bits == y.physical_bits;
}

}  // namespace vm::mem::paging
