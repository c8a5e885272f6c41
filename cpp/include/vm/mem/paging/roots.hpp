#pragma once
/// \file
/// Finding page-table roots in memory whose registers are unknown: dumps without CPU notes, and the processes that were
/// not running when a dump was made. Evidence is the tables themselves; nothing is known about any operating system.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "vm/mem/guest/memory.hpp"
#include "vm/mem/paging/config.hpp"

namespace vm::mem::paging {

struct RootScanOptions {
  /// What to look for. The roots in the configurations are ignored; their other settings decide which bits are
  /// reserved. Empty: `default_root_formats()`.
  std::vector<PagingConfig> formats;
  /// Candidates returned, best first.
  std::size_t limit = 64;
  /// Asked every few milliseconds with the bytes that have been read; false ends the scan with an empty answer.
  std::function<bool(std::uint64_t done, std::uint64_t total)> progress;
};

/// One place that would make sense as a root, with the evidence for it. Counts are of distinct paths, not of samples,
/// unless the memory holds more than a quarter of a million plausible tables.
struct RootCandidate {
  PagingConfig config;     ///< ready for an `AddressSpace`. AArch64: the half that does not use this root is disabled
  std::uint64_t root = 0;  ///< physical address of the top table
  double score = 0;        ///< 0 to 100; a ranking, not a probability
  std::uint32_t entries = 0;         ///< valid entries in the top table
  std::uint32_t shared_entries = 0;  ///< of the kernel's part, those that other candidates have in the same place
  std::uint64_t tables = 0;          ///< tables reached that are not empty, the top one included
  std::uint64_t broken_tables = 0;   ///< of them those with too many malformed entries; nothing below is followed
  std::uint64_t empty_tables = 0;    ///< tables reached that are empty
  std::uint64_t pages = 0;           ///< leaf mappings reached, of any size
  std::uint64_t accessed_pages = 0;  ///< of them with the accessed flag set
  std::uint64_t kernel_pages = 0;    ///< of them out of the user's reach; x86 and RISC-V: and in the upper half
  std::uint64_t user_pages = 0;      ///< leaf mappings that the user can reach, if the tables above allow it
  std::uint64_t mapped_bytes = 0;
  bool maps_itself = false;     ///< a supervisor mapping covers the top table, as in a kernel that edits its own tables
  bool self_referring = false;  ///< an entry of the top table points at the top table (Windows, some BSDs)
  /// Root of the better candidate that has this table as one of its lower tables, or as its top table in another
  /// format; else `no_address`.
  std::uint64_t table_of = 0;
};

/// x86 4-level, LA57 and PAE, RISC-V Sv39, Sv48 and Sv57, AArch64 4K with 48-bit and 39-bit halves.
std::vector<PagingConfig> default_root_formats();

/// Reads all memory once and ranks what could be a root. Works in bounded time and space whatever the memory holds.
/// Processes of one kernel get the same score, and those with more pages of their own come first. Throws InvalidConfig
/// for a format that no processor can be set to, ClosedError. Threads: any number may scan one memory.
std::vector<RootCandidate> find_roots(const GuestMemory& memory, const RootScanOptions& options = {});

}  // namespace vm::mem::paging
