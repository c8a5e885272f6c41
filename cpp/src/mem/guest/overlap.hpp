#pragma once
/// \file
/// A write may be given bytes of the memory that it writes: a view of it.

#include <cstddef>
#include <cstdint>
#include <functional>

namespace vm::mem {

/// Whether two runs of host memory have a byte in common.
inline bool overlap(const std::byte* one, std::uint64_t one_size, const std::byte* other,
                    std::uint64_t other_size) noexcept {
  const std::less<> before;  // also where < would say nothing: between two allocations
  return before(one, other + other_size) && before(other, one + one_size);
}

}  // namespace vm::mem
