#pragma once
/// \file
/// How a processor would walk: which format, from which root, with which checks switched on. Plain values; the
/// constructors of `AddressSpace` validate them.

#include <cstdint>
#include <string>
#include <variant>

namespace vm::mem::paging {

/// x86 paging (Intel SDM vol. 3 chapter 4).
struct X86Config {
  int levels = 4;                ///< 2: 32-bit (PSE-36), 3: PAE, 4: 4-level, 5: 5-level (LA57)
  std::uint64_t root = 0;        ///< physical address of the top table; CR3 without its flag and PCID bits
  bool write_protect = true;     ///< CR0.WP: supervisor writes respect R/W
  bool no_execute = true;        ///< EFER.NXE; ignored for 2 levels, which have no such bit
  bool smep = false;             ///< CR4.SMEP
  bool smap = false;             ///< CR4.SMAP
  bool ac = false;               ///< EFLAGS.AC: lifts SMAP
  bool pse = true;               ///< CR4.PSE: 4 MiB pages, 2 levels only
  bool gigabyte_pages = true;    ///< CPUID Page1GB
  bool protection_keys = false;  ///< CR4.PKE, 4 and 5 levels
  std::uint32_t pkru = 0;
  bool supervisor_keys = false;  ///< CR4.PKS, 4 and 5 levels
  std::uint32_t pkrs = 0;        ///< IA32_PKRS
  int physical_bits = 52;        ///< MAXPHYADDR, 32..52: entry bits above it are reserved
  bool global_pages = true;      ///< CR4.PGE: bit 8 of a leaf keeps its translation in TLBs over changes of CR3

  /// The mode that these control registers select. Throws InvalidConfig when CR0.PG is clear.
  static X86Config from_registers(std::uint64_t cr0, std::uint64_t cr3, std::uint64_t cr4, std::uint64_t efer);
};

enum class RiscVMode : std::uint8_t { sv32 = 1, sv39 = 8, sv48 = 9, sv57 = 10 };  ///< values of satp.MODE

/// RISC-V paging (Privileged Architecture, "Supervisor-Level ISA", Sv32 to Sv57).
struct RiscVConfig {
  RiscVMode mode = RiscVMode::sv39;
  std::uint64_t root = 0;  ///< physical address of the top table: satp.PPN * 4096
  bool sum = false;        ///< sstatus.SUM: supervisor loads and stores may touch user pages
  bool mxr = false;        ///< sstatus.MXR: executable pages are readable
  bool svnapot = true;     ///< 64 KiB contiguous pages through the N bit; off: the bit is reserved
  bool svpbmt = true;      ///< page-based memory types; off: the bits are reserved
  bool svadu = false;      ///< hardware sets A and D; off: a clear bit faults (Svade)

  /// Throws InvalidConfig for satp.MODE 0 (Bare) or a reserved mode. `xlen` is 32 or 64.
  static RiscVConfig from_satp(std::uint64_t satp, int xlen = 64);
};

/// AArch64 stage 1 of the EL1&0 regime (Arm ARM, D8 "The AArch64 Virtual Memory System Architecture").
struct AArch64Config {
  std::uint64_t granule = 4096;  ///< 4096, 16384 or 65536; must agree with TCR_EL1.TG0 and TG1 of the enabled halves
  std::uint64_t ttbr0 = 0;       ///< lower half; the ASID and CnP fields are ignored
  std::uint64_t ttbr1 = 0;       ///< upper half
  std::uint64_t tcr = 0;         ///< TCR_EL1: T0SZ, T1SZ, EPDn, TGn, IPS, TBIn, HA, HD, HPDn and DS are read
  bool wxn = false;              ///< SCTLR_EL1.WXN: writable implies not executable
  bool pan = false;              ///< PSTATE.PAN: no privileged data access to pages that EL0 can access
  int physical_bits = 52;        ///< ID_AA64MMFR0_EL1.PARange in bits: caps TCR_EL1.IPS

  /// TCR_EL1 of an ordinary kernel: 48-bit halves, 48-bit output, this granule in both.
  static std::uint64_t default_tcr(std::uint64_t granule);
  /// The granule that TG0 (or TG1, when EPD0 is set) names. Throws InvalidConfig for the reserved encoding.
  static std::uint64_t granule_of(std::uint64_t tcr);
};

using PagingConfig = std::variant<X86Config, RiscVConfig, AArch64Config>;

/// Throws what the constructor of `AddressSpace` would throw for this configuration.
void validate(const PagingConfig& config);

/// Whether two configurations are the same processor state but for the roots, so that translations cached under one
/// ASID keep their meaning when the root changes.
bool same_but_root(const PagingConfig& a, const PagingConfig& b) noexcept;

/// Whether addresses may carry a tag that translation ignores: AArch64 with TCR_EL1.TBI0 or TBI1.
bool has_tags(const PagingConfig& config) noexcept;
/// The address without such a tag, as a TLB knows it: bits 63..56 are copies of bit 55 where they are ignored.
std::uint64_t untagged(const PagingConfig& config, std::uint64_t vaddr) noexcept;

/// "x86 4-level, root 0x1000" and the like, for people.
std::string describe(const PagingConfig& config);

}  // namespace vm::mem::paging
