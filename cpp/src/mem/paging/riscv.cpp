#include "vm/mem/paging/riscv.hpp"

#include "vm/core/error.hpp"

namespace vm::mem::paging {

template <int Levels>
RiscVFormat<Levels>::RiscVFormat(const RiscVConfig& config) : config_(config) {
  const unsigned root_bits = wide ? 56 : 34;
  if ((config.root & 0xFFF) != 0 || config.root > low_bits(root_bits))
    throw InvalidConfig("root is " + hex(config.root) + "; this mode needs a multiple of 4096 below 2^" +
                        std::to_string(root_bits));
  if constexpr (wide) {
    reserved_ = bit_range(54, 60);
    if (!config.svpbmt) reserved_ |= bit_range(61, 62);
    if (!config.svnapot) reserved_ |= napot;
  }
}

template <int Levels>
LeafFilter RiscVFormat<Levels>::leaf_filter(Access access, Privilege privilege, bool update) const noexcept {
  LeafFilter f = address_filter();
  f.usable = true;
  // Bits above the address are rare enough (Svnapot, Svpbmt) for the full walker to have them all.
  f.care = static_cast<Entry>(valid | (wide ? bit_range(54, 63) : 0));
  f.want = valid;
  const bool flags_matter = access != Access::none && (update || !config_.svadu);
  if (flags_matter) {
    const Entry flags = has(access, Access::write) ? accessed | dirty : accessed;
    f.care |= flags;
    f.want |= flags;
  }
  for (Rights r = 0; r < 64; ++r) {
    const Access page = user_access(r) | supervisor_access(r);
    // No access at all is a pointer, write without read is reserved: not leaves, whatever the request.
    if (page == Access::none || (has(page, Access::write) && !has(page, Access::read))) continue;
    if (access == Access::none || check_rights(r, access, privilege) == FaultReason::none)
      f.ok_rights |= std::uint64_t{1} << r;
  }
  return f;
}

template class RiscVFormat<2>;
template class RiscVFormat<3>;
template class RiscVFormat<4>;
template class RiscVFormat<5>;

}  // namespace vm::mem::paging
