#pragma once
/// \file
/// `GuestMemory`: guest-physical memory as this process sees it.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "vm/mem/guest/region.hpp"

namespace vm::mem {

class GuestMemory {
 public:
  /// The current regions. Never null; throws ClosedError after `close`. The caller may keep the table as long as it
  /// likes: host memory stays mapped while any table or view refers to it.
  std::shared_ptr<const RegionTable> table() const;
};

}  // namespace vm::mem
