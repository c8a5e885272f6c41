#pragma once
/// \file
/// What a TLB holds, what it answers, and the three words that both are kept in.

#include <cstdint>

#include "vm/core/access.hpp"

namespace vm::mem::tlb {

/// Whose translations: an address space (x86 PCID, RISC-V and AArch64 ASID) of a virtual machine.
struct Context {
  std::uint16_t asid = 0;
  std::uint16_t vmid = 0;

  friend constexpr bool operator==(Context a, Context b) noexcept { return a.asid == b.asid && a.vmid == b.vmid; }
  friend constexpr bool operator!=(Context a, Context b) noexcept { return !(a == b); }
};

/// One cached translation.
struct Entry {
  std::uint64_t vaddr = 0;      ///< the page's first byte
  std::uint64_t paddr = 0;      ///< the page's first byte
  Rights rights = 0;            ///< what the page tables allow
  Rights usable = 0;            ///< what a hit may be used for without asking the tables again: processor modes are
                                ///< applied, and writing is left out while the dirty flag has to be set first
  std::uint8_t size_log2 = 12;  ///< the page is 2^size_log2 bytes; at least 4 KiB
  std::int8_t level = 0;        ///< of the table that holds the leaf; 0 is the last
  bool global = false;          ///< valid for every ASID of its VMID
  bool prefetched = false;      ///< filled on a prefetcher's advice
  Context context;

  constexpr std::uint64_t page_size() const noexcept { return std::uint64_t{1} << size_log2; }
};

/// A successful look-up.
struct Hit {
  std::uint64_t paddr = 0;  ///< of the address that was asked for
  Rights rights = 0;
  Rights usable = 0;
  std::uint8_t size_log2 = 0;
  std::int8_t level = 0;
  bool global = false;
  bool prefetched = false;     ///< this is the first use of a prefetched entry
  std::uint8_t tlb_level = 0;  ///< which level of the hierarchy had it; 0 is the first

  constexpr bool allows(Access access, Privilege privilege) const noexcept {
    return has(access_of(usable, privilege), access);
  }
};

/// An entry as three words, so that a set's tags can be compared in one instruction.
///
/// tag    bits 12..63 of the page's first address; bits 0..5 size_log2. 0 is an empty way.
/// frame  bits 12..63 of the page's physical address; bits 0..5 rights, 6..11 usable
/// meta   bits 0..15 ASID, 16..31 VMID, 32..34 level, 35 global, 36 prefetched
struct PackedEntry {
  std::uint64_t tag = 0;
  std::uint64_t frame = 0;
  std::uint64_t meta = 0;
};

inline constexpr std::uint64_t page_offset_mask = 0xFFF;
inline constexpr unsigned meta_level_shift = 32;
inline constexpr std::uint64_t meta_global = std::uint64_t{1} << 35;
inline constexpr std::uint64_t meta_prefetched = std::uint64_t{1} << 36;

constexpr std::uint64_t tag_of(std::uint64_t vaddr, unsigned size_log2) noexcept {
  return (vaddr >> size_log2 << size_log2) | size_log2;
}
constexpr unsigned size_of_tag(std::uint64_t tag) noexcept { return static_cast<unsigned>(tag & 63); }

constexpr std::uint64_t meta_context(Context context) noexcept {
  return context.asid | static_cast<std::uint64_t>(context.vmid) << 16;
}
/// Whether an entry answers for `context`: its own, or any ASID of its VMID when it is global.
constexpr bool answers(std::uint64_t meta, Context context) noexcept {
  const std::uint64_t difference = meta ^ meta_context(context);
  const std::uint64_t care = (meta & meta_global) != 0 ? 0xFFFF'0000 : 0xFFFF'FFFF;
  return (difference & care) == 0;
}

constexpr PackedEntry pack(const Entry& e) noexcept {
  return {tag_of(e.vaddr, e.size_log2),
          (e.paddr >> e.size_log2 << e.size_log2) | (e.rights & 63) | (e.usable & 63) << 6,
          meta_context(e.context) | static_cast<std::uint64_t>(e.level & 7) << meta_level_shift |
              (e.global ? meta_global : 0) | (e.prefetched ? meta_prefetched : 0)};
}

constexpr Entry unpack(const PackedEntry& p) noexcept {
  Entry e;
  e.size_log2 = static_cast<std::uint8_t>(size_of_tag(p.tag));
  e.vaddr = p.tag & ~page_offset_mask;
  e.paddr = p.frame & ~page_offset_mask;
  e.rights = static_cast<Rights>(p.frame & 63);
  e.usable = static_cast<Rights>(p.frame >> 6 & 63);
  e.level = static_cast<std::int8_t>(p.meta >> meta_level_shift & 7);
  e.global = (p.meta & meta_global) != 0;
  e.prefetched = (p.meta & meta_prefetched) != 0;
  e.context = {static_cast<std::uint16_t>(p.meta), static_cast<std::uint16_t>(p.meta >> 16)};
  return e;
}

/// The answer for `vaddr`, which lies in the entry's page.
constexpr Hit hit_of(const PackedEntry& p, std::uint64_t vaddr) noexcept {
  const unsigned size = size_of_tag(p.tag);
  Hit hit;
  hit.paddr = (p.frame & ~page_offset_mask) | (vaddr & ((std::uint64_t{1} << size) - 1));
  hit.rights = static_cast<Rights>(p.frame & 63);
  hit.usable = static_cast<Rights>(p.frame >> 6 & 63);
  hit.size_log2 = static_cast<std::uint8_t>(size);
  hit.level = static_cast<std::int8_t>(p.meta >> meta_level_shift & 7);
  hit.global = (p.meta & meta_global) != 0;
  hit.prefetched = (p.meta & meta_prefetched) != 0;
  return hit;
}

}  // namespace vm::mem::tlb
