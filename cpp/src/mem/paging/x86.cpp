#include "vm/mem/paging/x86.hpp"

#include "vm/core/error.hpp"

namespace vm::mem::paging {

template <int Levels>
X86Format<Levels>::X86Format(const X86Config& config) : config_(config) {
  if (config.levels != Levels) throw InvalidConfig("x86 levels is " + std::to_string(config.levels) + "; 2 to 5 exist");
  if (config.physical_bits < 32 || config.physical_bits > 52)
    throw InvalidConfig("physical_bits is " + std::to_string(config.physical_bits) + "; x86 has 32 to 52");
  const std::uint64_t alignment = Levels == 3 ? 32 : 4096;
  const unsigned root_bits = long_mode ? static_cast<unsigned>(config.physical_bits) : 32;
  if ((config.root & (alignment - 1)) != 0 || config.root > low_bits(root_bits))
    throw InvalidConfig("root is " + hex(config.root) + "; this format needs a multiple of " +
                        std::to_string(alignment) + " below 2^" + std::to_string(root_bits));
  if (!long_mode && (config.protection_keys || config.supervisor_keys))
    throw InvalidConfig("protection keys exist in 4-level and 5-level paging only");

  if constexpr (wide) {
    const auto width = static_cast<unsigned>(config.physical_bits);
    std::uint64_t high = long_mode ? bit_range(width, 51) : bit_range(width, 62);
    if (!config.no_execute) high |= std::uint64_t{1} << 63;
    for (int level = 0; level < Levels; ++level) {
      reserved_table_[level] = high;
      reserved_leaf_[level] = level == 0 ? high : high | bit_range(13, level_shift<X86Format>(level) - 1);
      if (level >= 2) reserved_table_[level] |= page_size;  // PS where no page of that size exists
    }
    // SDM table 4-8: a PDPTE has only P, PWT, PCD and the address. Bit 5 would be the accessed flag: a processor
    // refuses to load such a PDPTE, but QEMU's TCG sets the flag there, so that only its dumps ever show one.
    if (Levels == 3) reserved_table_[2] = bit_range(width, 63) | bit_range(6, 8) | bit_range(1, 2);
  } else {
    reserved_leaf_[1] = static_cast<Entry>(bit_range(pse36_bits() - 19, 21));  // SDM table 4-4
  }
}

template <int Levels>
LeafFilter X86Format<Levels>::leaf_filter(Access access, Privilege privilege, bool update) const noexcept {
  LeafFilter f;
  f.usable = true;
  f.care = present | reserved_leaf_[0];
  f.want = present;
  f.address_mask = address_mask(12);
  if (update) {
    const Entry flags = has(access, Access::write) ? accessed | dirty : accessed;
    f.care |= flags;
    f.want |= flags;
  }
  if (long_mode && (config_.protection_keys || config_.supervisor_keys) && access != Access::none) {
    // Pages with key 0 take the fast path, the others the full walk; if key 0 itself is restricted, all do.
    f.care |= bit_range(59, 62);
    f.usable = ((config_.pkru | config_.pkrs) & 3) == 0;
  }
  for (Rights r = 0; r < 64; ++r)
    if (access == Access::none || check_rights(r, access, privilege) == FaultReason::none)
      f.ok_rights |= std::uint64_t{1} << r;
  return f;
}

template class X86Format<2>;
template class X86Format<3>;
template class X86Format<4>;
template class X86Format<5>;

}  // namespace vm::mem::paging
