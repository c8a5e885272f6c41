#pragma once
/// \file
/// What a walk answers, alone and packed by the million.

#include <cstdint>

#include "vm/core/access.hpp"
#include "vm/core/fault.hpp"

namespace vm::mem::paging {

/// One walk's answer. When `reason` is not `none`, only `vaddr`, `level` and `reason` mean anything.
struct Translation {
  std::uint64_t vaddr = 0;
  std::uint64_t paddr = 0;
  Rights rights = 0;
  std::uint8_t size_log2 = 0;  ///< the page is 2^size_log2 bytes
  std::int8_t level = 0;       ///< 0 is the last-level table; the level whose entry answered or faulted
  FaultReason reason = FaultReason::none;

  constexpr bool ok() const noexcept { return reason == FaultReason::none; }
  constexpr std::uint64_t page_size() const noexcept { return std::uint64_t{1} << size_log2; }
};

/// A table that a walk goes through, and what the tables above it leave of the rights.
struct WalkTable {
  std::uint64_t table = 0;
  std::uint32_t allowances = 0;
};

/// What a walk learns beside the translation, for those who cache it. Levels as in `Translation`.
struct WalkRecord {
  WalkTable tables[5];          ///< by level, from `top` down to the level of the leaf
  std::int8_t top = 0;          ///< where the walk began
  std::uint64_t leaf_at = 0;    ///< physical address of the leaf entry
  std::uint8_t leaf_bytes = 8;  ///< size of an entry
  Rights usable = 0;            ///< of the rights, what this processor may use without another walk: modes are
                                ///< applied, and what would have to set an A or D flag first is left out
  bool global = false;          ///< the leaf is in every address space
};

/// Everything about one answer but the address, in 16 bits, so that a batch writes 10 bytes an element.
/// Success: bits 0..5 rights, 6..11 log2 of the page size, 12..14 level. Fault: bit 15, bits 0..4 reason, 12..14 level.
using PackedInfo = std::uint16_t;
inline constexpr PackedInfo packed_fault_bit = 0x8000;
/// The physical address of an element that faulted: no memory can be there, so a careless use of it fails loudly.
inline constexpr std::uint64_t no_address = UINT64_MAX;

constexpr PackedInfo pack_success(Rights rights, unsigned size_log2, int level) noexcept {
  return static_cast<PackedInfo>(rights | size_log2 << 6 | static_cast<unsigned>(level) << 12);
}
constexpr PackedInfo pack_fault(FaultReason reason, int level) noexcept {
  return static_cast<PackedInfo>(packed_fault_bit | static_cast<unsigned>(reason) | static_cast<unsigned>(level) << 12);
}
constexpr bool is_fault(PackedInfo info) noexcept { return (info & packed_fault_bit) != 0; }
constexpr FaultReason reason_of(PackedInfo info) noexcept {
  return is_fault(info) ? static_cast<FaultReason>(info & 31) : FaultReason::none;
}
constexpr int level_of(PackedInfo info) noexcept { return info >> 12 & 7; }
constexpr Rights rights_of(PackedInfo info) noexcept { return is_fault(info) ? 0 : info & 63U; }
constexpr std::uint64_t page_size_of(PackedInfo info) noexcept {
  return is_fault(info) ? 0 : std::uint64_t{1} << (info >> 6 & 63);
}

constexpr PackedInfo pack(const Translation& t) noexcept {
  return t.ok() ? pack_success(t.rights, t.size_log2, t.level) : pack_fault(t.reason, t.level);
}

}  // namespace vm::mem::paging
