#pragma once
/// \file
/// Pages that are there already, moved to where they are wanted now.

#include <cstdint>
#include <map>
#include <string>

#include "vm/mem/numa/binding.hpp"
#include "vm/mem/numa/placement.hpp"

namespace vm::mem::numa {

/// What a migration did, counted by asking where the pages are before and after. Bytes.
struct Migration {
  Decision decision;                      ///< what holds for the range from now on
  Binding binding;                        ///< whether the kernel places pages by it that are touched later
  std::uint64_t moved_bytes = 0;          ///< were elsewhere, and are where they were sent
  std::map<int, std::uint64_t> moved_to;  ///< the same by node
  std::uint64_t already_bytes = 0;        ///< were there before
  std::uint64_t failed_bytes = 0;         ///< are still elsewhere
  std::uint64_t absent_bytes = 0;         ///< have no page yet
  std::string reason;                     ///< why the first page that failed did; empty when none failed
  Verification verification;              ///< after it
};

/// Moves all pages of this process that are on one node to another (migrate_pages(2)); memory policies stay as they
/// are. Returns how many pages stayed, for instance because other processes map them too. Throws OutOfRange,
/// NotSupported, PlatformError.
std::uint64_t migrate_process(int from, int to);

}  // namespace vm::mem::numa
