#pragma once
/// \file
/// The arithmetic of last-level entries, written once for one word and for a vector of words.
///
/// `W` is `std::uint64_t` or a vector of 64-bit lanes with the same operators. Everything here is a template over `W`
/// and nothing else, so that a translation unit compiled for AVX-512 instantiates it over its own vector type and emits
/// no symbol that the linker could hand to code for older processors.

#include <cstdint>

namespace vm::mem::paging {

/// Run-time constants of one format and one request, prepared by the format for the whole batch.
///
/// An entry with `((entry ^ want) & care) == 0` and `ok_rights >> rights & 1` translates. The filter is sound, not
/// complete: what it refuses is walked again by the full walker, which has the last word.
struct LeafFilter {
  bool usable = false;  ///< false: no simple filter exists, walk every element
  std::uint64_t care = 0;
  std::uint64_t want = 0;
  std::uint64_t ok_rights = 0;     ///< bit r is set when rights r satisfy the request
  std::uint64_t address_mask = 0;  ///< entry bits that are address bits, before the format's own shift
  std::uint64_t high_mask = 0;     ///< AArch64 52-bit addresses: entry bits that hold the top of the address
  std::uint64_t high_shift = 0;
  std::uint64_t mode = 0;  ///< AArch64: bit 0 TCR.HD, bit 1 SCTLR.WXN
};

/// x86 with 8-byte entries. `upper` is what the levels above allow: bit 0 execute, bit 1 write, bit 2 user.
struct X86Leaf {
  template <class W>
  static W allowances(W entry) {
    return (entry & W(6)) | ((entry >> 63) ^ W(1));
  }
  template <class W>
  static W rights(W entry, W upper, const LeafFilter&) {
    const W allowed = allowances(entry) & upper;
    const W rwx = W(1) | (allowed & W(2)) | ((allowed & W(1)) << 2);
    const W user = W(0) - ((allowed >> 2) & W(1));  // all ones for a user page
    return rwx | ((rwx << 3) & user);
  }
  template <class W>
  static W address(W entry, const LeafFilter& f) {
    return entry & W(f.address_mask);
  }
};

/// RISC-V Sv39 to Sv57, and Sv32 as one word. Tables carry no rights, so `upper` is not used.
struct RiscVLeaf {
  template <class W>
  static W rights(W entry, W, const LeafFilter&) {
    const W rwx = (entry >> 1) & W(7);
    const W user = W(0) - ((entry >> 4) & W(1));
    const W supervisor = rwx & ((user & W(4)) ^ W(7));  // a supervisor never executes a user page
    return supervisor | ((rwx << 3) & user);
  }
  template <class W>
  static W address(W entry, const LeafFilter& f) {
    return (entry & W(f.address_mask)) << 2;  // PPN starts at bit 10 and stands for bit 12
  }
};

/// AArch64 stage 1. `upper` as the hierarchical bits leave it: bit 0 privileged execute, bit 1 user execute,
/// bit 2 user data access, bit 3 write (the complements of PXNTable, UXNTable, APTable[0], APTable[1]).
struct AArch64Leaf {
  template <class W>
  static W rights(W entry, W upper, const LeafFilter& f) {
    const W one(1);
    const W writable_clean = (entry >> 51) & W(f.mode);  // DBM, when TCR.HD gives it a meaning
    const W writable = (((entry >> 7) & one) ^ one) | (writable_clean & one);
    const W w = writable & (upper >> 3);
    const W user_data = (entry >> 6) & (upper >> 2) & one;
    const W user_write = user_data & w;
    const W wxn = W(f.mode >> 1);
    const W px = (((entry >> 53) & one) ^ one) & upper & ((user_write | (w & wxn)) ^ one);
    const W ux = (((entry >> 54) & one) ^ one) & (upper >> 1) & ((user_write & wxn) ^ one);
    const W supervisor = one | (w << 1) | (px << 2);
    const W user = user_data | (user_write << 1) | ((ux & one) << 2);
    return supervisor | (user << 3);
  }
  template <class W>
  static W address(W entry, const LeafFilter& f) {
    return (entry & W(f.address_mask)) | ((entry & W(f.high_mask)) << static_cast<unsigned>(f.high_shift));
  }
};

}  // namespace vm::mem::paging
