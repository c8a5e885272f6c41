#pragma once
/// \file
/// The unit in which this system maps, protects and gives back memory.

#include <cstdint>

namespace vm::mem {

/// Bytes of one ordinary page of the host (sysconf(_SC_PAGESIZE)): 4096 on x86, up to 65536 on AArch64.
std::uint64_t host_page_size() noexcept;

}  // namespace vm::mem
