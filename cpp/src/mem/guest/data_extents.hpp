#pragma once
/// \file
/// Which parts of a mapping hold data, told by the kernel: what was never touched or is a hole in the file is zeros and
/// need not be read.

#include <cstdint>

#include "vm/mem/pages/mapping.hpp"

namespace vm::mem {

/// [begin, end) in bytes from the mapping's start.
struct Extent {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

class DataExtents {
 public:
  /// Where the kernel does not tell (no /proc, an old file system), everything counts as data.
  explicit DataExtents(const HostMapping& mapping);

  /// The first data in [begin, end); an empty extent at `end` when there is none. Everything before it is zeros.
  Extent next(std::uint64_t begin, std::uint64_t end) const;

 private:
  Extent next_in_file(std::uint64_t begin, std::uint64_t end) const;
  Extent next_in_memory(std::uint64_t begin, std::uint64_t end) const;

  const HostMapping& mapping_;
  UniqueFd file_;
  UniqueFd page_map_;
};

}  // namespace vm::mem
