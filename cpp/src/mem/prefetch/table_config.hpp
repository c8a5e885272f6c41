#pragma once
/// \file
/// The limits that prefetchers with a table share.

#include <cstdint>
#include <string>

#include "vm/core/error.hpp"
#include "vm/mem/prefetch/prefetcher.hpp"

namespace vm::mem::prefetch {

/// Rows beyond this are more than any stream here can use, and would be gigabytes of table.
inline constexpr std::uint64_t max_rows = std::uint64_t{1} << 20;

/// Throws InvalidConfig unless `rows` rows can be sets of `ways`; `who` begins the message.
inline void require_rows(const std::string& who, std::uint64_t rows, std::uint64_t ways) {
  require_between((who + ": rows").c_str(), rows, 1, max_rows);
  require_between((who + ": ways").c_str(), ways, 1, 16);
  if (rows % ways != 0) {
    throw InvalidConfig(who + ": rows must be a multiple of ways, got " + std::to_string(rows) + " rows in sets of " +
                        std::to_string(ways));
  }
}

}  // namespace vm::mem::prefetch
