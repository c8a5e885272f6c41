#pragma once
/// \file
/// Which engine a batch uses, from a sample of its addresses and the facts of this machine.

#include <cstddef>
#include <cstdint>

#include "mem/paging/leaf_kernel.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::mem::paging {

/// What the plan needs to know about a format.
struct BatchGeometry {
  unsigned span_shift = 0;      ///< log2 of the bytes that one last-level table covers
  std::size_t table_bytes = 0;  ///< size of one last-level table
  bool wide_entries = false;    ///< 8-byte entries: vector kernels exist
};

struct BatchPlan {
  Engine engine = Engine::walk;
  std::size_t slots = 0;  ///< of the leaf cache; a power of two
  bool tagged = false;    ///< the addresses are too far apart for a slot for each span (see LeafCacheView)
  std::uint64_t first_span = 0;
  bool prefetch = false;  ///< the last-level tables in use exceed this core's L2 cache
};

/// True when this build has the engine's code, this processor its instructions and the format its kernel.
bool engine_available(Engine engine, const BatchGeometry& geometry) noexcept;

/// `filter_usable` is LeafFilter::usable for the request. Throws NotSupported for an explicit engine that is not
/// available.
BatchPlan plan_batch(const BatchGeometry& geometry, bool filter_usable, const std::uint64_t* vaddr, std::size_t count,
                     Engine wanted);

}  // namespace vm::mem::paging
