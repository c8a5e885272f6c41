#pragma once
/// \file
/// What a SlabAllocator can be asked for, and what it tells.

#include <array>
#include <cstddef>
#include <cstdint>

#include "vm/mem/alloc/size_classes.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem::alloc {

/// What a SlabAllocator looks for in its callers. A finding is an exception that names the block; from a destructor
/// that frees (a container over `SlabResource`, say) it ends the program, as any exception there.
///
/// All but `guard_pages` take the same lock for each call, 100 to 300 ns.
struct Hardening {
  /// Refuses to free what is free (DoubleFree), what is no block of this allocator or only the inside of one, and what
  /// was allocated with another size (AccessViolation). The other three below need it.
  bool checks = false;
  /// Fills what a block has beyond the bytes asked for, at least 8 bytes, and looks at them when it is freed:
  /// AccessViolation when somebody wrote beyond the end. A block holds 8 bytes less then.
  bool canaries = false;
  /// So many freed blocks are filled with a pattern and wait, the oldest leaves first; AccessViolation when a block was
  /// written while it waited. Their list is encoded with a secret, so that overwriting it is noticed too.
  std::size_t quarantine = 0;
  /// The last page of each slab is inaccessible: who runs from one slab into the next gets a SIGSEGV. Needs one kernel
  /// mapping for each 32 KiB or so in use, of which a process may have 65530 (vm.max_map_count).
  bool guard_pages = false;

  /// Everything, with a quarantine of 1024 blocks.
  static constexpr Hardening all() noexcept { return {true, true, 1024, true}; }
};

/// How a SlabAllocator uses memory.
struct SlabConfig {
  /// Bytes of address space, rounded up to whole slabs; memory is used as blocks are. At most 2^46.
  std::uint64_t capacity = std::uint64_t{1} << 34;
  /// Free blocks of each class that wait in full magazines for any thread, in bytes; more return to their slabs.
  std::uint64_t cached_bytes = std::uint64_t{1} << 20;
  /// Slabs without blocks in use that keep their pages; more give them back to the kernel.
  std::uint32_t spare_slabs = 256;
  HugePages huge_pages = HugePages::none;
  Hardening hardening;
};

/// One size of block at one moment.
struct SlabClassStats {
  std::size_t block_size = 0;  ///< bytes
  std::uint64_t slabs = 0;     ///< slabs cut into blocks of this size
  std::uint64_t live = 0;      ///< blocks that the program has (and those in quarantine, or damaged)
  std::uint64_t cached = 0;    ///< free blocks in magazines
  std::uint64_t refills = 0;   ///< times that a magazine was filled from slabs; never with Hardening::checks
  std::uint64_t returned = 0;  ///< blocks that went back to their slabs
};

/// An account of a SlabAllocator. Exact while no other thread allocates or frees; else each figure is one that held at
/// some moment of the call. Calls of allocate and deallocate are not counted: that would cost more than they do.
struct SlabStats {
  std::array<SlabClassStats, class_count> classes;
  std::uint64_t live_blocks = 0;   ///< sum over the classes
  std::uint64_t live_bytes = 0;    ///< the same in bytes of their blocks
  std::uint64_t cached_bytes = 0;  ///< free blocks in magazines, in bytes
  std::uint64_t slab_bytes = 0;    ///< slabs in use
  std::uint64_t spare_slabs = 0;   ///< empty slabs that still have their pages
  std::uint64_t exchanges = 0;     ///< magazines handed over between threads and the depot
  std::uint64_t threads = 0;       ///< threads that have magazines, and Local objects
  std::uint64_t quarantined = 0;   ///< blocks in quarantine
  std::uint64_t repeated_frees =
      0;  ///< blocks that came back to their slab although they were free: a bug of the caller
};

}  // namespace vm::mem::alloc
