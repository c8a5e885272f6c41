#pragma once
/// \file
/// What to forget.

#include <cstdint>

#include "vm/mem/tlb/entry.hpp"

namespace vm::mem::tlb {

enum class FlushScope : std::uint8_t {
  page,        ///< the pages that contain `vaddr`, of any size, for `context`; global ones too (x86 INVLPG)
  range,       ///< the pages that overlap [vaddr, vaddr + size), likewise
  asid,        ///< what belongs to `context`, except global entries
  non_global,  ///< everything of context.vmid except global entries
  all,         ///< everything, of every context
};
const char* to_string(FlushScope scope) noexcept;

struct FlushRequest {
  FlushScope scope = FlushScope::all;
  std::uint64_t vaddr = 0;
  std::uint64_t size = 0;  ///< of a range, in bytes; a range that would wrap ends at 2^64
  Context context;

  static constexpr FlushRequest page(std::uint64_t vaddr, Context context = {}) noexcept {
    return {FlushScope::page, vaddr, 1, context};
  }
  static constexpr FlushRequest range(std::uint64_t vaddr, std::uint64_t size, Context context = {}) noexcept {
    return {FlushScope::range, vaddr, size, context};
  }
  static constexpr FlushRequest asid(Context context) noexcept { return {FlushScope::asid, 0, 0, context}; }
  static constexpr FlushRequest non_global(std::uint16_t vmid = 0) noexcept {
    return {FlushScope::non_global, 0, 0, {0, vmid}};
  }
  static constexpr FlushRequest all() noexcept { return {}; }
};

/// Whether `request` is about the entry in `tag` and `meta`.
constexpr bool covers(const FlushRequest& request, std::uint64_t tag, std::uint64_t meta) noexcept {
  const bool global = (meta & meta_global) != 0;
  const bool same_vm = static_cast<std::uint16_t>(meta >> 16) == request.context.vmid;
  switch (request.scope) {
    case FlushScope::all: return true;
    case FlushScope::non_global: return same_vm && !global;
    case FlushScope::asid: return same_vm && !global && static_cast<std::uint16_t>(meta) == request.context.asid;
    case FlushScope::page:
    case FlushScope::range: break;
  }
  if (request.size == 0 || !answers(meta, request.context)) return false;
  const std::uint64_t first = tag & ~page_offset_mask;
  const std::uint64_t last = first + ((std::uint64_t{1} << size_of_tag(tag)) - 1);
  const std::uint64_t request_last =
      request.size - 1 > UINT64_MAX - request.vaddr ? UINT64_MAX : request.vaddr + (request.size - 1);
  return first <= request_last && request.vaddr <= last;
}

}  // namespace vm::mem::tlb
