#pragma once
/// \file
/// mmap with its refusals as exceptions, and the figures that every mapping of this room goes by.

#include <cstddef>
#include <cstdint>

#include "vm/mem/pages/mapping.hpp"

namespace vm::mem {

/// The kernel can use a transparent huge page only where a whole aligned one fits.
inline constexpr std::size_t transparent_alignment = std::size_t{1} << 21;

/// The flags that say how large reserved pages are, for mmap(2) and memfd_create(2); 0 for the other kinds.
unsigned huge_size_flags(HugePages kind) noexcept;

/// Whether to ask for transparent huge pages.
bool wants_transparent(HugePages kind, std::uint64_t size) noexcept;

/// Throws InvalidConfig for 0, ResourceExhausted for what no address space holds.
void check_mapping_size(std::uint64_t size, const char* what);

/// Nothing on failure; then `code` is the errno.
MappedPages map_pages(std::uint64_t length, int protection, int flags, int fd, std::uint64_t offset,
                      int& code) noexcept;

/// Anonymous private memory of `lead + size + tail` bytes, whole pages all, whose byte `lead` is a multiple of
/// `alignment`, at least a page. Costs nothing until touched. Nothing on failure; then `code` is the errno.
MappedPages map_aligned(std::uint64_t lead, std::uint64_t size, std::uint64_t tail, std::uint64_t alignment,
                        int protection, int& code) noexcept;

/// For errno `code` of map_pages: ResourceExhausted or PlatformError.
[[noreturn]] void throw_no_memory(std::uint64_t size, const char* what, int code);

}  // namespace vm::mem
