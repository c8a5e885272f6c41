#include "vm/mem/paging/aarch64.hpp"

#include <algorithm>

#include "vm/core/error.hpp"

namespace vm::mem::paging {
namespace {

// TCR_EL1 fields (Arm ARM D17.2.139).
constexpr unsigned tcr_ha = 39;
constexpr unsigned tcr_hd = 40;
constexpr unsigned tcr_ds = 59;
constexpr unsigned tcr_epd[2] = {7, 23};
constexpr unsigned tcr_size_offset[2] = {0, 16};
constexpr unsigned tcr_tbi[2] = {37, 38};
constexpr unsigned tcr_hpd[2] = {41, 42};

unsigned output_size(std::uint64_t tcr) {
  constexpr unsigned bits[] = {32, 36, 40, 42, 44, 48, 52};
  const std::uint64_t ips = tcr >> 32 & 7;
  if (ips > 6) throw InvalidConfig("TCR_EL1.IPS holds the reserved value 7; 0 (32 bits) to 6 (52 bits) exist");
  return bits[ips];
}

}  // namespace

template <unsigned PageShift>
AArch64Format<PageShift>::AArch64Format(const AArch64Config& config) : config_(config) {
  const std::uint64_t granule = std::uint64_t{1} << PageShift;
  if (config.granule != granule || AArch64Config::granule_of(config.tcr) != granule)
    throw InvalidConfig("granule is " + std::to_string(config.granule) + " but TCR_EL1 " + hex(config.tcr) +
                        " selects " + std::to_string(AArch64Config::granule_of(config.tcr)));
  if (config.physical_bits < 32 || config.physical_bits > 52)
    throw InvalidConfig("physical_bits is " + std::to_string(config.physical_bits) + "; AArch64 has 32 to 52");
  const std::uint64_t tcr = config.tcr;
  wide_shareability_ = PageShift != 16 && test_bit(tcr, tcr_ds);
  output_bits_ = std::min(output_size(tcr), static_cast<unsigned>(config.physical_bits));
  const bool can_exceed_48 = PageShift == 16 || wide_shareability_;
  if (!can_exceed_48) output_bits_ = std::min(output_bits_, 48U);
  hardware_accessed_ = test_bit(tcr, tcr_ha);

  address_.address_mask = bit_range(PageShift, 47);
  // Where an implementation can hold 52 bits, they are address bits whatever IPS says: what exceeds IPS is an address
  // size fault (pseudocode AArch64.LeafBase, AArch64.OAOutOfRange).
  const bool large_addresses = PageShift == 16 && config.physical_bits > 48;
  if (wide_shareability_) {
    address_.address_mask = bit_range(PageShift, 49);  // FEAT_LPA2: 49:48 in place, 51:50 in bits 9:8
    address_.high_mask = bit_range(8, 9);
    address_.high_shift = 42;
  } else if (large_addresses) {
    address_.high_mask = bit_range(12, 15);  // FEAT_LPA: 51:48 in bits 15:12
    address_.high_shift = 36;
  }
  address_.mode = (hardware_accessed_ && test_bit(tcr, tcr_hd) ? 1U : 0U) | (config.wxn ? 2U : 0U);

  // Pages everywhere; 2 MiB / 32 MiB / 512 MiB blocks everywhere; larger ones per granule (pseudocode
  // AArch64.BlockDescSupported).
  leaf_levels_ = 3;
  if (PageShift == 12) leaf_levels_ |= wide_shareability_ ? 12U : 4U;
  if (PageShift == 14 && wide_shareability_) leaf_levels_ |= 4;
  if (large_addresses) leaf_levels_ |= 4;

  set_half(0, config.ttbr0);
  set_half(1, config.ttbr1);
  // HPD is per half; the walker keeps one setting, so a half that differs from the other is refused.
  const bool low = test_bit(tcr, tcr_hpd[0]);
  const bool high = test_bit(tcr, tcr_hpd[1]);
  if (low != high && !half_[0].disabled && !half_[1].disabled)
    throw NotSupported("TCR_EL1.HPD0 and HPD1 differ; walk each half through its own AddressSpace (EPD0 or EPD1)");
  if (half_[0].disabled ? high : low) hierarchy_ignored_ = 15;
}

template <unsigned PageShift>
void AArch64Format<PageShift>::set_half(int which, std::uint64_t ttbr) {
  Half& h = half_[which];
  const std::uint64_t tcr = config_.tcr;
  h.disabled = test_bit(tcr, tcr_epd[which]);
  if (h.disabled) return;
  const auto size_offset = static_cast<unsigned>(tcr >> tcr_size_offset[which] & 63);
  const unsigned least = PageShift == 16 || wide_shareability_ ? 12 : 16;
  const unsigned most = PageShift == 16 ? 47 : 48;
  if (size_offset < least || size_offset > most)
    throw InvalidConfig("TCR_EL1.T" + std::to_string(which) + "SZ is " + std::to_string(size_offset) +
                        "; with this granule " + std::to_string(least) + " to " + std::to_string(most) + " are valid");
  h.virtual_bits = 64 - size_offset;
  h.level = static_cast<int>((h.virtual_bits - PageShift + index_bits - 1) / index_bits) - 1;
  const unsigned top_bits = h.virtual_bits - level_shift<AArch64Format>(h.level);
  h.index_mask = low_bits(top_bits);
  const unsigned top_byte_ignored = test_bit(tcr, tcr_tbi[which]) ? 55 : 63;
  h.sign_mask = bit_range(h.virtual_bits, top_byte_ignored);
  h.sign = which == 0 ? 0 : UINT64_MAX;

  // BADDR is aligned to the size of the top table, at least 64 bytes where its bits 5:2 hold address bits 51:48.
  const bool wide_base = wide_shareability_ || output_bits_ > 48;
  const unsigned table_bits = std::max(top_bits + 3, wide_base ? 6U : 0U);
  h.table = ttbr & bit_range(1, 47) & ~low_bits(table_bits);
  if (wide_base) h.table |= (ttbr >> 2 & 15) << 48;
  if ((h.table & ~low_bits(output_bits_)) != 0)
    throw InvalidConfig("TTBR" + std::to_string(which) + "_EL1 " + hex(ttbr) + " lies beyond the " +
                        std::to_string(output_bits_) + "-bit output size");
}

template <unsigned PageShift>
std::uint32_t AArch64Format<PageShift>::error_code(const FaultInfo& fault) const noexcept {
  // Arm numbers levels from the top of a 4-level walk: its level 3 is our 0, and LPA2 adds level -1.
  const int arm_level = 3 - fault.level;
  const auto at = [&](std::uint32_t base, std::uint32_t minus_one) {
    return arm_level < 0 ? minus_one : base | static_cast<std::uint32_t>(arm_level);
  };
  switch (fault.reason) {
    case FaultReason::not_canonical:
    case FaultReason::walk_disabled: return 0x04;
    case FaultReason::not_present:
    case FaultReason::reserved_bit: return at(0x04, 0x2B);
    case FaultReason::access_flag: return at(0x08, 0x08);
    case FaultReason::address_size: return at(0x00, 0x29);
    case FaultReason::table_unreachable: return at(0x14, 0x13);
    default: return at(0x0C, 0x0C);
  }
}

template <unsigned PageShift>
LeafFilter AArch64Format<PageShift>::leaf_filter(Access access, Privilege privilege, bool update) const noexcept {
  LeafFilter f = address_;
  f.usable = true;
  f.care = 3;
  f.want = 3;
  // An address that could exceed the output size takes the full walk.
  const std::uint64_t beyond = ~low_bits(output_bits_);
  f.care |= (address_.address_mask & beyond) | (address_.high_mask & (beyond >> address_.high_shift));
  if (access != Access::none && (update || !hardware_accessed_)) {
    f.care |= accessed;
    f.want |= accessed;
  }
  if (update && hardware_dirty() && has(access, Access::write)) f.care |= read_only;  // clean pages must be marked
  for (Rights r = 0; r < 64; ++r)
    if (access == Access::none || check_rights(r, access, privilege) == FaultReason::none)
      f.ok_rights |= std::uint64_t{1} << r;
  return f;
}

template class AArch64Format<12>;
template class AArch64Format<14>;
template class AArch64Format<16>;

}  // namespace vm::mem::paging
