#pragma once
// A small guest memory whose tables are written by hand, and questions to it.

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "vm/core/error.hpp"
#include "vm/mem/guest/memory.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::mem::paging::test {

inline constexpr Access r = Access::read;
inline constexpr Access w = Access::write;
inline constexpr Access x = Access::execute;
inline constexpr Access rw = r | w;
inline constexpr Access rx = r | x;
inline constexpr Access rwx = r | w | x;
inline constexpr Privilege supervisor = Privilege::supervisor;
inline constexpr Privilege user = Privilege::user;

inline std::uint64_t bit(unsigned n) { return std::uint64_t{1} << n; }

/// Guest memory at 0 with words in it.
class Machine {
 public:
  explicit Machine(std::uint64_t size = std::uint64_t{4} << 20) : memory(GuestMemory::anonymous(size)) {}

  void put(std::uint64_t paddr, std::uint64_t value) { memory->write(paddr, &value, sizeof value); }
  void put32(std::uint64_t paddr, std::uint32_t value) { memory->write(paddr, &value, sizeof value); }
  std::uint64_t get(std::uint64_t paddr) const {
    std::uint64_t value = 0;
    memory->read(paddr, &value, sizeof value);
    return value;
  }
  std::uint32_t get32(std::uint64_t paddr) const { return static_cast<std::uint32_t>(get(paddr)); }
  std::vector<std::uint8_t> bytes() const {
    std::vector<std::uint8_t> all(memory->size());
    memory->read(memory->base(), all.data(), all.size());
    return all;
  }

  std::shared_ptr<GuestMemory> memory;
};

/// A fault as the architecture would report it; `reason` is `none` when the access succeeds.
struct Report {
  FaultReason reason;
  int level;
  std::uint32_t error_code;

  friend bool operator==(const Report& a, const Report& b) {
    return a.reason == b.reason && a.level == b.level && a.error_code == b.error_code;
  }
};
inline void PrintTo(const Report& report, std::ostream* out) {
  *out << describe(report.reason) << " at level " << report.level << ", error code " << hex(report.error_code);
}

inline Translation ask(const Machine& machine, const PagingConfig& config, std::uint64_t vaddr, Access access = r,
                       Privilege privilege = supervisor) {
  return AddressSpace(machine.memory, config).try_translate(GuestVirtual{vaddr}, access, privilege);
}

inline Report report(const Machine& machine, const PagingConfig& config, std::uint64_t vaddr, Access access = r,
                     Privilege privilege = supervisor) {
  const AddressSpace space(machine.memory, config);
  const Translation t = space.try_translate(GuestVirtual{vaddr}, access, privilege);
  if (t.ok()) return {FaultReason::none, t.level, 0};
  const FaultInfo fault = space.fault_info(t, access, privilege);
  return {fault.reason, fault.level, fault.error_code};
}

/// A format with an empty top table at `root`, and what a test must know to use it.
struct Layout {
  std::string name;
  PagingConfig config;
  std::vector<std::uint64_t> page_sizes;  ///< ascending; [0] is the frame size too
  std::uint64_t base;                     ///< a virtual address aligned to a page of page_sizes[2], or of the largest
  std::uint64_t root;
};
inline void PrintTo(const Layout& layout, std::ostream* out) { *out << layout.name; }

inline std::vector<Layout> layouts() {
  constexpr std::uint64_t K = 1024, M = 1024 * K, G = 1024 * M, T = 1024 * G;
  constexpr std::uint64_t root = 0x10000;
  const auto x86 = [](int levels) {
    X86Config c;
    c.levels = levels;
    c.root = root;
    return c;
  };
  const auto riscv = [](RiscVMode mode) {
    RiscVConfig c;
    c.mode = mode;
    c.root = root;
    return c;
  };
  const auto aarch64 = [](std::uint64_t granule, std::uint64_t tcr) {
    AArch64Config c;
    c.granule = granule;
    c.ttbr0 = root;
    c.ttbr1 = 0x20000;
    c.tcr = tcr;
    return c;
  };
  const auto tcr = [](std::uint64_t granule) { return AArch64Config::default_tcr(granule); };
  const auto lpa2 = [&](std::uint64_t granule) {  // DS, 52-bit halves, 52-bit output
    return (tcr(granule) & ~(std::uint64_t{63} << 16 | 63 | std::uint64_t{7} << 32)) | bit(59) | 12 | 12 << 16 |
           std::uint64_t{6} << 32;
  };
  return {{"x86_2", x86(2), {4 * K, 4 * M}, 0x4000'0000, root},
          {"x86_3", x86(3), {4 * K, 2 * M}, 0x4000'0000, root},
          {"x86_4", x86(4), {4 * K, 2 * M, 1 * G}, 0xFFFF'8000'4000'0000, root},
          {"x86_5", x86(5), {4 * K, 2 * M, 1 * G}, 0x00FF'0000'4000'0000, root},
          {"sv32", riscv(RiscVMode::sv32), {4 * K, 4 * M}, 0x4000'0000, root},
          {"sv39", riscv(RiscVMode::sv39), {4 * K, 2 * M, 1 * G}, 0x20'4000'0000, root},
          {"sv48", riscv(RiscVMode::sv48), {4 * K, 2 * M, 1 * G, 512 * G}, 0xFFFF'8000'4000'0000, root},
          {"sv57", riscv(RiscVMode::sv57), {4 * K, 2 * M, 1 * G, 512 * G, 256 * T}, 0xFF00'0000'4000'0000, root},
          {"arm_4K", aarch64(4 * K, tcr(4 * K)), {4 * K, 2 * M, 1 * G}, 0x4000'0000, root},
          {"arm_16K", aarch64(16 * K, tcr(16 * K)), {16 * K, 32 * M}, 0xFFFF'0000'4000'0000, 0x20000},
          {"arm_64K", aarch64(64 * K, tcr(64 * K)), {64 * K, 512 * M, 4 * T}, 0x4000'0000'0000, root},
          {"arm_4K_lpa2", aarch64(4 * K, lpa2(4 * K)), {4 * K, 2 * M, 1 * G, 512 * G}, 0x4'0000'4000'0000, root},
          {"arm_16K_lpa2", aarch64(16 * K, lpa2(16 * K)), {16 * K, 32 * M, 64 * G}, 0xFFF1'0010'0000'0000, 0x20000}};
}

}  // namespace vm::mem::paging::test
