#pragma once
/// \file
/// RISC-V page-table formats: Privileged Architecture, "Supervisor-Level ISA" (virtual-memory systems Sv32, Sv39, Sv48,
/// Sv57; Svnapot; Svpbmt; Svade and Svadu).

#include <type_traits>

#include "vm/mem/paging/config.hpp"
#include "vm/mem/paging/format.hpp"
#include "vm/mem/paging/leaf.hpp"

namespace vm::mem::paging {

template <int Levels>
class RiscVFormat {
  static_assert(Levels >= 2 && Levels <= 5);
  static constexpr bool wide = Levels > 2;  // Sv32 has 4-byte entries

 public:
  using Entry = std::conditional_t<wide, std::uint64_t, std::uint32_t>;
  using Leaf = RiscVLeaf;
  using Config = RiscVConfig;
  static constexpr unsigned page_shift = 12;
  static constexpr unsigned index_bits = wide ? 9 : 10;
  static constexpr unsigned virtual_bits = page_shift + Levels * index_bits;

  /// Throws InvalidConfig.
  explicit RiscVFormat(const RiscVConfig& config);

  Start start(std::uint64_t vaddr) const noexcept {
    return {config_.root, Levels - 1, low_bits(index_bits),
            is_extended(vaddr, virtual_bits) ? FaultReason::none : FaultReason::not_canonical};
  }

  Step decode(Entry entry, int level) const noexcept {
    if ((entry & valid) == 0) return {FaultReason::not_present, false, 0, 0};
    if ((entry & reserved_) != 0) return {FaultReason::reserved_bit, false, 0, 0};
    const Entry rwx = entry & (read | write | execute);
    const std::uint64_t address = RiscVLeaf::address<std::uint64_t>(entry, address_filter());
    if (rwx == 0) {
      if (level == 0) return {FaultReason::not_present, false, 0, 0};  // a pointer where no table can follow
      if ((entry & table_reserved) != 0) return {FaultReason::reserved_bit, false, 0, 0};
      return {FaultReason::none, false, 0, address};
    }
    if ((rwx & (read | write)) == write) return {FaultReason::reserved_bit, false, 0, 0};
    unsigned shift = level_shift<RiscVFormat>(level);
    if constexpr (wide) {
      if ((entry >> 61 & 3) == 3) return {FaultReason::reserved_bit, false, 0, 0};  // Svpbmt keeps this value back
      if ((entry & napot) != 0) {
        // Svnapot defines one encoding: a level-0 leaf whose low PPN bits read 1000, 16 pages together.
        if (level != 0 || (entry >> 10 & 15) != 8) return {FaultReason::reserved_bit, false, 0, 0};
        return {FaultReason::none, true, 16, address & ~low_bits(16)};
      }
    }
    if ((address & low_bits(shift)) != 0) return {FaultReason::misaligned_page, false, 0, 0};
    return {FaultReason::none, true, static_cast<std::uint8_t>(shift), address};
  }

  /// Tables carry no rights, but what is below a global one is global.
  std::uint32_t table_allowances(Entry entry, int) const noexcept {
    return (entry & global_page) != 0 ? all_allowances & ~not_global : all_allowances;
  }
  Rights leaf_rights(Entry entry, std::uint32_t) const noexcept {
    return static_cast<Rights>(RiscVLeaf::rights<std::uint64_t>(entry, 0, LeafFilter{}));
  }

  FaultReason check_rights(Rights rights, Access access, Privilege privilege) const noexcept {
    const bool user_page = user_access(rights) != Access::none;
    const Access page = user_access(rights) | supervisor_access(rights);
    if (privilege == Privilege::user && !user_page) return FaultReason::user_denied;
    if (privilege == Privilege::supervisor && user_page) {
      if (has(access, Access::execute)) return FaultReason::supervisor_execute;
      if (has_any(access, Access::read | Access::write) && !config_.sum) return FaultReason::supervisor_access;
    }
    const bool readable = has(page, Access::read) || (config_.mxr && has(page, Access::execute));
    if (has(access, Access::read) && !readable) return FaultReason::read_denied;
    if (has(access, Access::write) && !has(page, Access::write)) return FaultReason::write_denied;
    if (has(access, Access::execute) && !has(page, Access::execute)) return FaultReason::execute_denied;
    return FaultReason::none;
  }

  FaultReason authorize(Entry leaf, Rights rights, Access access, Privilege privilege) const noexcept {
    if (access == Access::none) return FaultReason::none;
    const FaultReason denied = check_rights(rights, access, privilege);
    if (denied != FaultReason::none || config_.svadu) return denied;
    if ((leaf & accessed) == 0) return FaultReason::access_flag;
    if (has(access, Access::write) && (leaf & dirty) == 0) return FaultReason::dirty_flag;
    return FaultReason::none;
  }

  bool rights_decide(Entry leaf) const noexcept {
    return config_.svadu || (leaf & (accessed | dirty)) == (accessed | dirty);
  }
  bool global(Entry leaf, std::uint32_t allowances) const noexcept {
    return (leaf & global_page) != 0 || (allowances & not_global) == 0;
  }

  std::uint32_t error_code(const FaultInfo& fault) const noexcept {
    const bool unreachable = fault.reason == FaultReason::table_unreachable;  // an access fault, not a page fault
    if (has(fault.access, Access::write)) return unreachable ? 7 : 15;
    if (has(fault.access, Access::execute)) return unreachable ? 1 : 12;
    return unreachable ? 5 : 13;
  }

  LeafFilter leaf_filter(Access access, Privilege privilege, bool update) const noexcept;

  Entry accessed_table(Entry entry, int) const noexcept { return entry; }
  Entry accessed_leaf(Entry entry, Access wanted) const noexcept {
    if (!config_.svadu) return entry;  // Svade: software does it
    return static_cast<Entry>(entry | accessed | (has(wanted, Access::write) ? dirty : Entry{0}));
  }

  bool can_map(int level) const noexcept { return level < Levels; }
  unsigned physical_bits(int) const noexcept { return wide ? 56 : 34; }
  Entry make_table(std::uint64_t paddr, int) const noexcept { return static_cast<Entry>(paddr >> 2 | valid); }
  /// A and D are set, so that hardware with Svade does not fault on the first use.
  Entry make_leaf(std::uint64_t paddr, int, Access access, bool user_page) const noexcept {
    std::uint64_t entry = paddr >> 2 | static_cast<std::uint64_t>(access) << 1 | valid | accessed | dirty;
    if (user_page) entry |= user;
    return static_cast<Entry>(entry);
  }
  /// Writable but not readable is a reserved encoding.
  Access expressible(Access access) const noexcept {
    return has(access, Access::write) ? access | Access::read : access;
  }

  bool user_leaf(Entry leaf) const noexcept { return (leaf & user) != 0; }
  Entry with_access(Entry leaf, int, Access access, bool user_page) const noexcept {
    const Entry kept = leaf & static_cast<Entry>(~(read | write | execute | user));
    return static_cast<Entry>(kept | static_cast<unsigned>(access) << 1 | (user_page ? user : Entry{0}));
  }
  Entry split(Entry leaf, int level, unsigned index) const noexcept {
    // A superpage is aligned, so the part's page number only fills zeros.
    return static_cast<Entry>(leaf | static_cast<std::uint64_t>(index) << (level_shift<RiscVFormat>(level - 1) - 2));
  }
  unsigned run_length(Entry leaf, int level) const noexcept { return level == 0 && (leaf & napot) != 0 ? 16 : 1; }
  Entry detach(Entry leaf, unsigned index) const noexcept {
    const auto size_code = static_cast<Entry>(bit_range(10, 13));  // the low PPN bits say how long the run is
    return static_cast<Entry>((leaf & ~(napot | size_code)) | (index & 15) << 10);
  }
  Entry restrict_entry(Entry entry, bool, std::uint32_t) const noexcept { return entry; }
  Entry unrestricted_table(Entry table, int) const noexcept { return table; }

  int top_level(std::uint64_t) const noexcept { return Levels - 1; }
  int ranges(VirtualRange (&out)[2]) const noexcept { return extended_ranges(virtual_bits, out); }

 private:
  static constexpr Entry valid = 1;
  static constexpr Entry read = 2;
  static constexpr Entry write = 4;
  static constexpr Entry execute = 8;
  static constexpr Entry user = 0x10;
  static constexpr Entry global_page = 0x20;
  static constexpr Entry accessed = 0x40;
  static constexpr Entry dirty = 0x80;
  static constexpr Entry napot = wide ? static_cast<Entry>(std::uint64_t{1} << 63) : Entry{0};
  /// D, A, U, PBMT and N of a pointer "must be cleared by software"; hardware treats them as reserved.
  static constexpr Entry table_reserved = static_cast<Entry>(user | accessed | dirty | (wide ? bit_range(61, 63) : 0));

  static constexpr std::uint32_t not_global = 1;  ///< an allowance: gone below a global table

  static constexpr LeafFilter address_filter() noexcept {
    LeafFilter f;
    f.address_mask = wide ? bit_range(10, 53) : bit_range(10, 31);
    return f;
  }

  RiscVConfig config_;
  Entry reserved_ = 0;
};

extern template class RiscVFormat<2>;
extern template class RiscVFormat<3>;
extern template class RiscVFormat<4>;
extern template class RiscVFormat<5>;

}  // namespace vm::mem::paging
