#pragma once
/// \file
/// Checks hwloc's synthetic descriptions before hwloc sees them: it stops the process on some that it does not expect,
/// and builds machines of any size.

#include <cstdint>
#include <string_view>

namespace vm::detail {

inline constexpr std::uint64_t synthetic_cpu_limit = 65536;

/// Accepts levels "type:count" (node, pack, die, group, l1 to l5 with d or i, core, pu), "count" and attached memory
/// "[numa]", each with attributes in parentheses: memory and size with a value like 4GB, indexes with a list of
/// numbers. \throws InvalidConfig saying what else is there, and for more CPUs than the limit.
void check_synthetic(std::string_view description);

}  // namespace vm::detail
