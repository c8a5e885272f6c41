#pragma once
/// \file
/// What LazyMemory may be asked for.

#include <cstdint>

#include "vm/mem/guest/lazy_memory.hpp"

namespace vm::mem {

/// Bytes of the kernel's pages in such memory: what userfaultfd works in.
std::uint64_t lazy_step(HugePages huge_pages) noexcept;

/// Gives `options` back. Throws InvalidConfig naming what is wrong with them.
const LazyOptions& checked_lazy_options(std::uint64_t size, const PageSource* source, const LazyOptions& options);

}  // namespace vm::mem
