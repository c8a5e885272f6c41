#pragma once
/// \file
/// Requests to change page tables, and what an enumeration of them finds.

#include <cstdint>
#include <optional>

#include "vm/core/access.hpp"

namespace vm::mem::paging {

/// A run of virtual addresses that translates to a run of physical ones with the same rights and page size.
/// The layout is that of the NumPy structured array in Python.
struct Mapping {
  std::uint64_t vaddr = 0;
  std::uint64_t paddr = 0;
  std::uint64_t size = 0;             ///< bytes; a multiple of page_size
  std::uint64_t page_size = 0;        ///< of every page in the run
  Access access = Access::none;       ///< what the tables give the supervisor
  Access user_access = Access::none;  ///< what they give the user; none for a supervisor page
  std::uint8_t padding[6] = {};
};
static_assert(sizeof(Mapping) == 40);

/// Which part of the address space to enumerate, and how much of it at most.
struct EnumerateOptions {
  std::uint64_t first = 0;
  std::uint64_t last = UINT64_MAX;
  bool merge = true;  ///< join neighbours that continue each other, also across tables
  /// Upper bound of mappings returned and of tables read. Tables that point at themselves describe up to 2^36 pages in
  /// 4 KiB; beyond the bound the call throws ResourceExhausted rather than run for hours.
  std::uint64_t limit = std::uint64_t{1} << 24;
};

struct MapRequest {
  std::uint64_t vaddr = 0;
  std::uint64_t paddr = 0;
  std::uint64_t size = 0;
  Access access = Access::read;
  bool user = false;
  /// Bytes; absent: the largest pages that alignment and format allow.
  std::optional<std::uint64_t> page_size;
};

/// Physical addresses [first, last] from which new tables are taken.
struct TableRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

}  // namespace vm::mem::paging
