#pragma once
/// \file
/// Moving the pages of a range.

#include <cstdint>

#include "vm/mem/numa/migration.hpp"

namespace vm::mem::numa {

/// Sends every page of [start, start + size) that is not where `decision` wants it there: for an interleaving granule
/// by granule round the nodes, else to the home node where that is one of them, else to the first. Fills everything of
/// a Migration but `binding`. Throws what placement_of does, PlatformError.
Migration relocate(void* start, std::uint64_t size, const Decision& decision, std::uint64_t granule);

}  // namespace vm::mem::numa
