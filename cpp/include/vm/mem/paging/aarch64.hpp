#pragma once
/// \file
/// AArch64 stage 1 translation, EL1&0 regime: Arm ARM D8.2 (walks), D8.3 (descriptors), D8.4 (permissions), D8.5
/// (flags), D17.2.37 (fault status codes). `PageShift` is 12, 14 or 16.

#include "vm/mem/paging/config.hpp"
#include "vm/mem/paging/format.hpp"
#include "vm/mem/paging/leaf.hpp"

namespace vm::mem::paging {

template <unsigned PageShift>
class AArch64Format {
  static_assert(PageShift == 12 || PageShift == 14 || PageShift == 16);

 public:
  using Entry = std::uint64_t;
  using Leaf = AArch64Leaf;
  using Config = AArch64Config;
  static constexpr unsigned page_shift = PageShift;
  static constexpr unsigned index_bits = PageShift - 3;

  /// Throws InvalidConfig.
  explicit AArch64Format(const AArch64Config& config);

  Start start(std::uint64_t vaddr) const noexcept {
    const Half& h = half_[vaddr >> 55 & 1];
    FaultReason reason = FaultReason::none;
    if (h.disabled) reason = FaultReason::walk_disabled;
    if (((vaddr ^ h.sign) & h.sign_mask) != 0) reason = FaultReason::not_canonical;
    return {h.table, h.level, h.index_mask, reason};
  }

  Step decode(Entry entry, int level) const noexcept {
    if ((entry & 1) == 0) return {FaultReason::not_present, false, 0, 0};
    const bool table_or_page = (entry & 2) != 0;
    const bool leaf = level == 0 ? table_or_page : !table_or_page;
    // A block where none can be, or 01 in the last level: reserved encodings, reported as translation faults.
    if (leaf ? !can_map(level) : level == 0) return {FaultReason::reserved_bit, false, 0, 0};
    const std::uint64_t address = AArch64Leaf::address<std::uint64_t>(entry, address_);
    if ((address & ~low_bits(output_bits_)) != 0) return {FaultReason::address_size, false, 0, 0};
    if (!leaf) return {FaultReason::none, false, 0, address};
    const unsigned shift = level_shift<AArch64Format>(level);
    return {FaultReason::none, true, static_cast<std::uint8_t>(shift), address & ~low_bits(shift)};
  }

  std::uint32_t table_allowances(Entry entry, int) const noexcept {
    return static_cast<std::uint32_t>(~(entry >> 59) & 15) | hierarchy_ignored_;
  }
  Rights leaf_rights(Entry entry, std::uint32_t allowances) const noexcept {
    return static_cast<Rights>(AArch64Leaf::rights<std::uint64_t>(entry, allowances, address_));
  }

  FaultReason check_rights(Rights rights, Access access, Privilege privilege) const noexcept {
    constexpr Access data = Access::read | Access::write;
    const Access allowed = access_of(rights, privilege);
    if (privilege == Privilege::user && has_any(access, data) && !has_any(user_access(rights), data))
      return FaultReason::user_denied;
    if (privilege == Privilege::supervisor && config_.pan && has_any(access, data) &&
        has_any(user_access(rights), data))
      return FaultReason::supervisor_access;
    if (has(access, Access::read) && !has(allowed, Access::read)) return FaultReason::read_denied;
    if (has(access, Access::write) && !has(allowed, Access::write)) return FaultReason::write_denied;
    if (has(access, Access::execute) && !has(allowed, Access::execute)) return FaultReason::execute_denied;
    return FaultReason::none;
  }

  FaultReason authorize(Entry leaf, Rights rights, Access access, Privilege privilege) const noexcept {
    if (access == Access::none) return FaultReason::none;
    if (!hardware_accessed_ && (leaf & accessed) == 0) return FaultReason::access_flag;  // before permissions: D8.15
    return check_rights(rights, access, privilege);
  }

  bool rights_decide(Entry leaf) const noexcept { return hardware_accessed_ || (leaf & accessed) != 0; }
  bool global(Entry leaf, std::uint32_t) const noexcept { return (leaf & not_global) == 0; }

  std::uint32_t error_code(const FaultInfo& fault) const noexcept;

  LeafFilter leaf_filter(Access access, Privilege privilege, bool update) const noexcept;

  Entry accessed_table(Entry entry, int) const noexcept { return entry; }
  Entry accessed_leaf(Entry entry, Access wanted) const noexcept {
    if (hardware_accessed_) entry |= accessed;
    const bool dirties = hardware_dirty() && has(wanted, Access::write) && test_bit(entry, 51);
    return dirties ? entry & ~read_only : entry;
  }

  bool can_map(int level) const noexcept { return level < 64 && test_bit(leaf_levels_, static_cast<unsigned>(level)); }
  unsigned physical_bits(int) const noexcept { return output_bits_; }
  Entry make_table(std::uint64_t paddr, int) const noexcept { return place(paddr) | 3; }
  /// Normal memory through MAIR attribute 0, inner shareable, AF set; EL1 never executes user pages.
  Entry make_leaf(std::uint64_t paddr, int level, Access access, bool user_page) const noexcept {
    Entry entry = place(paddr) | accessed | (level == 0 ? 3U : 1U);
    if (!wide_shareability_) entry |= 3U << 8;
    if (user_page) entry |= user_data;
    if (!has(access, Access::write)) entry |= read_only;
    const bool executable = has(access, Access::execute);
    if (user_page || !executable) entry |= privileged_never;
    if (!user_page || !executable) entry |= user_never;
    return entry;
  }
  /// EL1 can read whatever it maps.
  Access expressible(Access access) const noexcept { return access | Access::read; }

  bool user_leaf(Entry leaf) const noexcept { return (leaf & user_data) != 0; }
  Entry with_access(Entry leaf, int, Access access, bool user_page) const noexcept {
    Entry entry = leaf & ~(user_data | privileged_never | user_never);
    if (!has(access, Access::write))
      entry = (entry & ~dirty_modifier) | read_only;
    else if (!hardware_dirty() || (entry & dirty_modifier) == 0)
      entry &= ~read_only;  // else read-only with DBM already means writable and clean
    const bool executable = has(access, Access::execute);
    if (user_page) entry |= user_data;
    if (user_page || !executable) entry |= privileged_never;
    if (!user_page || !executable) entry |= user_never;
    return entry;
  }
  Entry split(Entry leaf, int level, unsigned index) const noexcept {
    const int below = level - 1;
    const std::uint64_t base =
        decode(leaf, level).address + (static_cast<std::uint64_t>(index) << level_shift<AArch64Format>(below));
    // Below the address a block has bits of its own (nT) where a page has address bits.
    const Entry attributes = leaf & ~(bit_range(12, 49) | address_.high_mask | contiguous);
    return place(base) | attributes | (below == 0 ? 3U : 1U);
  }
  /// Entries with the contiguous bit (Arm ARM D8.6.1) stand together.
  unsigned run_length(Entry leaf, int level) const noexcept {
    if ((leaf & contiguous) == 0) return 1;
    if (PageShift == 12) return level <= 2 ? 16 : 1;
    if (PageShift == 14) return level == 0 ? 128 : level == 1 ? 32 : 1;
    return level <= 1 ? 32 : 1;
  }
  Entry detach(Entry leaf, unsigned) const noexcept { return leaf & ~contiguous; }
  Entry restrict_entry(Entry entry, bool leaf, std::uint32_t allowances) const noexcept {
    if (!leaf) return entry | static_cast<Entry>(~allowances & 15) << 59;
    if ((allowances & 1) == 0) entry |= privileged_never;
    if ((allowances & 2) == 0) entry |= user_never;
    if ((allowances & 4) == 0) entry &= ~user_data;
    if ((allowances & 8) == 0) entry = (entry & ~dirty_modifier) | read_only;
    return entry;
  }
  Entry unrestricted_table(Entry table, int) const noexcept { return table & ~bit_range(59, 62); }

  int top_level(std::uint64_t vaddr) const noexcept { return half_[vaddr >> 55 & 1].level; }
  int ranges(VirtualRange (&out)[2]) const noexcept {
    int n = 0;
    if (!half_[0].disabled) out[n++] = {0, low_bits(half_[0].virtual_bits)};
    if (!half_[1].disabled) out[n++] = {~low_bits(half_[1].virtual_bits), UINT64_MAX};
    return n;
  }

 private:
  struct Half {
    bool disabled = false;
    int level = 0;
    unsigned virtual_bits = 48;
    std::uint64_t table = 0;
    std::uint64_t index_mask = 0;
    std::uint64_t sign_mask = 0;  ///< bits that must equal bit 55; without the top byte when TBI is set
    std::uint64_t sign = 0;
  };

  static constexpr Entry user_data = Entry{1} << 6;        // AP[1]
  static constexpr Entry read_only = Entry{1} << 7;        // AP[2]
  static constexpr Entry accessed = Entry{1} << 10;        // AF
  static constexpr Entry not_global = Entry{1} << 11;      // nG
  static constexpr Entry dirty_modifier = Entry{1} << 51;  // DBM
  static constexpr Entry contiguous = Entry{1} << 52;
  static constexpr Entry privileged_never = Entry{1} << 53;
  static constexpr Entry user_never = Entry{1} << 54;

  void set_half(int which, std::uint64_t ttbr);
  bool hardware_dirty() const noexcept { return (address_.mode & 1) != 0; }
  std::uint64_t place(std::uint64_t paddr) const noexcept {
    return (paddr & address_.address_mask) | ((paddr >> address_.high_shift) & address_.high_mask);
  }

  AArch64Config config_;
  Half half_[2];
  LeafFilter address_;  ///< only the address and mode fields are used
  unsigned output_bits_ = 48;
  bool hardware_accessed_ = false;
  bool wide_shareability_ = false;  ///< TCR.DS: bits 9:8 belong to the address
  std::uint32_t hierarchy_ignored_ = 0;
  std::uint64_t leaf_levels_ = 0;  ///< bit n: a page or block may stand at level n
};

extern template class AArch64Format<12>;
extern template class AArch64Format<14>;
extern template class AArch64Format<16>;

}  // namespace vm::mem::paging
