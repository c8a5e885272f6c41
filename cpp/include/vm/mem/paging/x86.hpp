#pragma once
/// \file
/// x86 page-table formats: Intel SDM vol. 3 §4.3 (32-bit), §4.4 (PAE), §4.5 (4-level and 5-level), §4.6 (access
/// rights), §4.7 (error codes).

#include <type_traits>

#include "vm/mem/paging/config.hpp"
#include "vm/mem/paging/format.hpp"
#include "vm/mem/paging/leaf.hpp"

namespace vm::mem::paging {

template <int Levels>
class X86Format {
  static_assert(Levels >= 2 && Levels <= 5);
  static constexpr bool wide = Levels > 2;  // 8-byte entries
  static constexpr bool long_mode = Levels > 3;

 public:
  using Entry = std::conditional_t<wide, std::uint64_t, std::uint32_t>;
  using Leaf = X86Leaf;
  using Config = X86Config;
  static constexpr unsigned page_shift = 12;
  static constexpr unsigned index_bits = wide ? 9 : 10;
  static constexpr unsigned virtual_bits = Levels == 5 ? 57 : Levels == 4 ? 48 : 32;

  /// Throws InvalidConfig.
  explicit X86Format(const X86Config& config);

  Start start(std::uint64_t vaddr) const noexcept {
    return {config_.root, Levels - 1, low_bits(virtual_bits - level_shift<X86Format>(Levels - 1)),
            is_extended(vaddr, virtual_bits) ? FaultReason::none : FaultReason::not_canonical};
  }

  Step decode(Entry entry, int level) const noexcept {
    if ((entry & present) == 0) return {FaultReason::not_present, false, 0, 0};
    const bool leaf = level == 0 || ((entry & page_size) != 0 && can_map(level));
    const auto l = static_cast<unsigned>(level);
    if ((entry & (leaf ? reserved_leaf_[l] : reserved_table_[l])) != 0) return {FaultReason::reserved_bit, false, 0, 0};
    if (!leaf) return {FaultReason::none, false, 0, entry & address_mask(12)};
    const unsigned shift = level_shift<X86Format>(level);
    std::uint64_t address = entry & address_mask(shift);
    if (!wide && level == 1) address |= static_cast<std::uint64_t>(entry >> 13 & 0xFF) << 32;  // PSE-36
    return {FaultReason::none, true, static_cast<std::uint8_t>(shift), address};
  }

  /// PAE's top entries and their like carry no rights: the PDPT has neither R/W nor U/S (SDM table 4-8).
  std::uint32_t table_allowances(Entry entry, int level) const noexcept {
    if (Levels == 3 && level == 2) return all_allowances;
    return static_cast<std::uint32_t>(X86Leaf::allowances<std::uint64_t>(entry));
  }
  Rights leaf_rights(Entry entry, std::uint32_t allowances) const noexcept {
    return static_cast<Rights>(X86Leaf::rights<std::uint64_t>(entry, allowances, LeafFilter{}));
  }

  FaultReason check_rights(Rights rights, Access access, Privilege privilege) const noexcept {
    const bool user_page = user_access(rights) != Access::none;
    const Access allowed = supervisor_access(rights);
    if (privilege == Privilege::user && !user_page) return FaultReason::user_denied;
    if (privilege == Privilege::supervisor && user_page) {
      if (has(access, Access::execute) && config_.smep) return FaultReason::supervisor_execute;
      if (has_any(access, Access::read | Access::write) && config_.smap && !config_.ac)
        return FaultReason::supervisor_access;
    }
    if (has(access, Access::write) && !has(allowed, Access::write) &&
        (privilege == Privilege::user || config_.write_protect))
      return FaultReason::write_denied;
    if (has(access, Access::execute) && !has(allowed, Access::execute)) return FaultReason::execute_denied;
    return FaultReason::none;
  }

  FaultReason authorize(Entry leaf, Rights rights, Access access, Privilege privilege) const noexcept {
    if (access == Access::none) return FaultReason::none;
    const bool user_page = user_access(rights) != Access::none;
    if (privilege == Privilege::supervisor || user_page)
      if (!keys_allow(leaf, user_page, access, privilege)) return FaultReason::protection_key;
    return check_rights(rights, access, privilege);
  }

  /// Protection keys are in the leaf; all else that matters is in the rights.
  bool rights_decide(Entry) const noexcept { return !config_.protection_keys && !config_.supervisor_keys; }
  bool global(Entry leaf, std::uint32_t) const noexcept { return config_.global_pages && (leaf & global_page) != 0; }

  std::uint32_t error_code(const FaultInfo& fault) const noexcept {
    if (fault.reason == FaultReason::not_canonical || fault.reason == FaultReason::table_unreachable) return 0;
    std::uint32_t code = fault.reason == FaultReason::not_present ? 0 : 1;
    if (has(fault.access, Access::write)) code |= 2;
    if (fault.privilege == Privilege::user) code |= 4;
    if (fault.reason == FaultReason::reserved_bit) code |= 8;
    const bool reports_fetch = (wide && config_.no_execute) || config_.smep;
    if (has(fault.access, Access::execute) && reports_fetch) code |= 16;
    if (fault.reason == FaultReason::protection_key) code |= 32;
    return code;
  }

  LeafFilter leaf_filter(Access access, Privilege privilege, bool update) const noexcept;

  Entry accessed_table(Entry entry, int level) const noexcept {
    return Levels == 3 && level == 2 ? entry : static_cast<Entry>(entry | accessed);
  }
  Entry accessed_leaf(Entry entry, Access wanted) const noexcept {
    return static_cast<Entry>(entry | accessed | (has(wanted, Access::write) ? dirty : Entry{0}));
  }

  /// May a leaf stand at this level?
  bool can_map(int level) const noexcept {
    if (level == 0) return true;
    if (level == 1) return wide || config_.pse;
    return level == 2 && long_mode && config_.gigabyte_pages;
  }
  /// Bits of physical address that a leaf at this level can hold.
  unsigned physical_bits(int level) const noexcept {
    if (wide) return static_cast<unsigned>(config_.physical_bits);
    return level == 0 || config_.physical_bits < 32 ? 32U : pse36_bits();
  }
  /// Rights are given by the leaf alone, so a table allows everything.
  Entry make_table(std::uint64_t paddr, int level) const noexcept {
    const Entry flags = Levels == 3 && level == 2 ? present : static_cast<Entry>(present | writable | user);
    return static_cast<Entry>(paddr | flags);
  }
  /// The caller has checked `can_express`. A and D are set: software that cares clears them itself.
  Entry make_leaf(std::uint64_t paddr, int level, Access access, bool user_page) const noexcept {
    std::uint64_t entry = paddr | present | accessed | dirty;
    if (!wide && level == 1) entry = (paddr & 0xFFC00000) | (paddr >> 32 & 0xFF) << 13 | present | accessed | dirty;
    if (level > 0) entry |= page_size;
    if (has(access, Access::write)) entry |= writable;
    if (user_page) entry |= user;
    if (wide && !has(access, Access::execute) && config_.no_execute) entry |= std::uint64_t{1} << 63;
    return static_cast<Entry>(entry);
  }
  /// The access that a leaf made from `access` really grants: x86 cannot deny reads, nor fetches without NX.
  Access expressible(Access access) const noexcept {
    const bool can_deny_execute = wide && config_.no_execute;
    return access | Access::read | (can_deny_execute ? Access::none : Access::execute);
  }

  bool user_leaf(Entry leaf) const noexcept { return (leaf & user) != 0; }
  Entry with_access(Entry leaf, int, Access access, bool user_page) const noexcept {
    Entry entry = leaf & static_cast<Entry>(~(writable | user | execute_disable));
    if (has(access, Access::write)) entry |= writable;
    if (user_page) entry |= user;
    if (!has(access, Access::execute) && config_.no_execute) entry |= execute_disable;
    return entry;
  }
  Entry split(Entry leaf, int level, unsigned index) const noexcept {
    const int below = level - 1;
    const std::uint64_t base =
        decode(leaf, level).address + (static_cast<std::uint64_t>(index) << level_shift<X86Format>(below));
    Entry flags = leaf & static_cast<Entry>(wide ? ~bit_range(12, 51) : low_bits(12));
    // The PAT bit is bit 12 of a large page and bit 7, where large pages say that they are, of a small one.
    const bool pat = test_bit(leaf, 12);
    if (below == 0) flags = static_cast<Entry>((flags & ~page_size) | (pat ? page_size : Entry{0}));
    if (below > 0 && pat) flags |= large_pat;
    return static_cast<Entry>(base | flags);
  }
  unsigned run_length(Entry, int) const noexcept { return 1; }
  Entry detach(Entry leaf, unsigned) const noexcept { return leaf; }
  Entry restrict_entry(Entry entry, bool, std::uint32_t allowances) const noexcept {
    entry &= static_cast<Entry>(allowances | ~std::uint64_t{writable | user});
    return (allowances & 1) != 0 ? entry : static_cast<Entry>(entry | execute_disable);
  }
  Entry unrestricted_table(Entry table, int level) const noexcept {
    if (Levels == 3 && level == 2) return table;
    return static_cast<Entry>((table | writable | user) & ~execute_disable);
  }

  int top_level(std::uint64_t) const noexcept { return Levels - 1; }
  int ranges(VirtualRange (&out)[2]) const noexcept { return extended_ranges(virtual_bits, out); }

 private:
  static constexpr Entry present = 1;
  static constexpr Entry writable = 2;
  static constexpr Entry user = 4;
  static constexpr Entry accessed = 0x20;
  static constexpr Entry dirty = 0x40;
  static constexpr Entry page_size = 0x80;
  static constexpr Entry global_page = 0x100;
  static constexpr Entry large_pat = 0x1000;
  static constexpr Entry execute_disable = wide ? static_cast<Entry>(std::uint64_t{1} << 63) : Entry{0};

  static constexpr std::uint64_t address_mask(unsigned from) noexcept {
    return wide ? bit_range(from, 51) : bit_range(from, 31);
  }
  unsigned pse36_bits() const noexcept {
    return config_.physical_bits < 40 ? static_cast<unsigned>(config_.physical_bits) : 40U;
  }

  bool keys_allow(Entry leaf, bool user_page, Access access, Privilege privilege) const noexcept {
    if constexpr (!long_mode) return true;
    if (!(user_page ? config_.protection_keys : config_.supervisor_keys)) return true;
    if (!has_any(access, Access::read | Access::write)) return true;  // fetches are not subject to keys
    const unsigned key = static_cast<unsigned>(static_cast<std::uint64_t>(leaf) >> 59 & 15);
    const std::uint32_t bits = (user_page ? config_.pkru : config_.pkrs) >> (2 * key) & 3;
    if ((bits & 1) != 0) return false;  // access disabled
    const bool write_disabled = (bits & 2) != 0 && (privilege == Privilege::user || config_.write_protect);
    return !(write_disabled && has(access, Access::write));
  }

  X86Config config_;
  Entry reserved_table_[Levels] = {};
  Entry reserved_leaf_[Levels] = {};
};

extern template class X86Format<2>;
extern template class X86Format<3>;
extern template class X86Format<4>;
extern template class X86Format<5>;

}  // namespace vm::mem::paging
