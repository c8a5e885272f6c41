#pragma once
/// \file
/// Enumeration of everything that a set of page tables maps.

#include <functional>
#include <vector>

#include "vm/mem/guest/region.hpp"
#include "vm/mem/paging/mapping.hpp"

namespace vm::mem::paging {

/// Leaf mappings in ascending order. Entries that would fault for every access (malformed ones, tables outside memory)
/// are left out, as absent ones are. `keep_going` is asked now and then; false ends with what was found.
/// Throws ResourceExhausted beyond `options.limit` mappings or tables.
template <class F>
std::vector<Mapping> enumerate(const F& format, const RegionTable& memory, const EnumerateOptions& options,
                               const std::function<bool()>& keep_going);

}  // namespace vm::mem::paging
