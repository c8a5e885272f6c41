#pragma once
/// \file
/// What the walker, the mapper and the batch engine ask of a page-table format.
///
/// A format is a class with these members; all are `noexcept` and none touches memory:
///
///   using Entry                     std::uint32_t or std::uint64_t, little-endian in guest memory
///   using Leaf                      the arithmetic of leaf.hpp
///   static constexpr unsigned page_shift, index_bits
///   explicit Format(const Config&)  validates; throws InvalidConfig
///   Start start(vaddr)              which table to begin with, or why not
///   Step decode(Entry, level)       fault, next table, or leaf
///   std::uint32_t table_allowances(Entry, level)    rights that a table entry leaves to what is below it (AND them)
///   Rights leaf_rights(Entry, allowances)
///   FaultReason authorize(Entry leaf, Rights, Access, Privilege)   the architecture's checks, in its order
///   FaultReason check_rights(Rights, Access, Privilege)            the part of it that the rights decide
///   bool rights_decide(Entry leaf)                  whether that part is all of it for this leaf
///   bool global(Entry leaf, allowances)             the translation is the same in every address space
///   std::uint32_t error_code(const FaultInfo&)      as hardware would report it
///   LeafFilter leaf_filter(Access, Privilege, bool update)
///   Entry accessed_table / accessed_leaf(Entry, Access)   the entry after hardware set its A and D flags
///   int top_level(vaddr), int ranges(VirtualRange (&)[2])   what exists, for enumeration and range checks
///
/// and, for changing tables:
///
///   bool can_map(level), unsigned physical_bits(level), Access expressible(Access)
///   Entry make_table(paddr, level), Entry make_leaf(paddr, level, Access, user)
///   bool user_leaf(Entry)
///   Entry with_access(Entry leaf, level, Access, user)   the leaf with other rights; everything else stays
///   Entry split(Entry leaf, level, index)                part `index` of a leaf, as a leaf one level below
///   unsigned run_length(Entry leaf, level)               entries that form one translation (Svnapot) or may be cached
///                                                        as one (contiguous bit), aligned to their number; else 1
///   Entry detach(Entry leaf, index)                      entry `index` of such a run, as a leaf of its own
///   Entry restrict_entry(Entry, bool leaf, allowances)   the entry with a restriction of the table above it moved in
///   Entry unrestricted_table(Entry table, level)         the table entry without restrictions
///
/// Levels count what is left to walk: 0 is the last-level table, whatever the architecture's own numbering.

#include <cstdint>

#include "vm/core/access.hpp"
#include "vm/core/fault.hpp"
#include "vm/mem/paging/translation.hpp"

namespace vm::mem::paging {

/// `allowances` before any table has restricted them.
inline constexpr std::uint32_t all_allowances = 0x7FFF;
/// Of the deepest format.
inline constexpr int max_levels = 5;

/// Where a walk begins.
struct Start {
  std::uint64_t table = 0;       ///< physical address of the top table
  int level = 0;                 ///< level of the top table
  std::uint64_t index_mask = 0;  ///< the top table may have fewer entries than the others
  FaultReason reason = FaultReason::none;
};

/// What one entry says.
struct Step {
  FaultReason reason = FaultReason::none;
  bool leaf = false;
  std::uint8_t size_log2 = 0;  ///< leaf only
  std::uint64_t address = 0;   ///< next table, or first byte of the page
};

/// One contiguous range of virtual addresses translated by one root.
struct VirtualRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

constexpr std::uint64_t low_bits(unsigned n) noexcept { return n >= 64 ? UINT64_MAX : (std::uint64_t{1} << n) - 1; }
/// Bits first..last, both included; empty when last < first.
constexpr std::uint64_t bit_range(unsigned first, unsigned last) noexcept {
  return last < first ? 0 : low_bits(last + 1) & ~low_bits(first);
}
constexpr bool test_bit(std::uint64_t value, unsigned n) noexcept { return (value >> n & 1) != 0; }

/// Addresses of x86 and RISC-V: 32-bit ones are zero-extended, wider ones are sign-extended from their highest bit
/// (canonical form).
constexpr bool is_extended(std::uint64_t vaddr, unsigned virtual_bits) noexcept {
  if (virtual_bits == 32) return vaddr >> 32 == 0;
  const auto top = static_cast<std::int64_t>(vaddr) >> (virtual_bits - 1);
  return top == 0 || top == -1;
}
/// The ranges of such addresses, in ascending order; returns how many.
inline int extended_ranges(unsigned virtual_bits, VirtualRange (&out)[2]) noexcept {
  if (virtual_bits == 32) {
    out[0] = {0, low_bits(32)};
    return 1;
  }
  out[0] = {0, low_bits(virtual_bits - 1)};
  out[1] = {~low_bits(virtual_bits - 1), UINT64_MAX};
  return 2;
}

/// First bit that a virtual address uses to index the table at `level`.
template <class Format>
constexpr unsigned level_shift(int level) noexcept {
  return Format::page_shift + static_cast<unsigned>(level) * Format::index_bits;
}

}  // namespace vm::mem::paging
