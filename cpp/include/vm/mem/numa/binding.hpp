#pragma once
/// \file
/// A decision made known to the kernel for a range of addresses.

#include <cstdint>
#include <string>

#include "vm/mem/numa/policy.hpp"

namespace vm::mem::numa {

/// How requests reach the kernel.
enum class Through : std::uint8_t {
  automatic,     ///< hwloc where this build has it and it may bind here, else system calls
  hwloc,         ///< NotSupported where it may not
  system_calls,  ///< mbind(2)
};

/// What became of a request. A binding counts only when the kernel, asked what it holds for the first page, repeats it:
/// hwloc returns success for a machine that is only described. Where nobody may ask (get_mempolicy is forbidden),
/// mbind's own word has to do.
struct Binding {
  std::string through;  ///< "hwloc 2.9.0" or "mbind"; empty when the kernel holds no such policy
  std::string refusal;  ///< why it does not, or why it holds only part of it (no home node); else empty

  bool bound() const noexcept { return !through.empty(); }
};

/// Asks the kernel to place the pages of [start, start + size) by `decision` when they are first touched; pages that
/// are there stay where they are. `start` is the beginning of a page. Returns 0 or errno. One system call, or two with
/// a home node; throws nothing, allocates nothing, takes no lock: for the inside of allocators.
int bind_range(void* start, std::uint64_t size, const Decision& decision) noexcept;

}  // namespace vm::mem::numa
