#pragma once
/// \file
/// Changes to page tables: each call does all that was asked or, when it throws, nothing.

#include <cstdint>
#include <optional>

#include "frames.hpp"
#include "vm/mem/guest/region.hpp"
#include "vm/mem/paging/mapping.hpp"

namespace vm::mem::paging {

template <class F>
void map_range(const F& format, const RegionTable& memory, TableFrames& frames, const MapRequest& request);

template <class F>
std::uint64_t unmap_range(const F& format, const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr,
                          std::uint64_t size);

template <class F>
void protect_range(const F& format, const RegionTable& memory, TableFrames& frames, std::uint64_t vaddr,
                   std::uint64_t size, Access access, std::optional<bool> user);

}  // namespace vm::mem::paging
