#pragma once
/// \file
/// What this kernel has to say about huge pages, and errors that repeat it.

#include <cstdint>

#include "vm/mem/pages/mapping.hpp"

namespace vm::mem {

/// Bytes of one reserved page of this kind; 0 for `none` and `transparent`.
std::uint64_t reserved_page_size(HugePages kind) noexcept;

/// Throws InvalidConfig unless `size` is a multiple of the page size of a reserved kind.
void require_whole_huge_pages(std::uint64_t size, HugePages kind);

/// Throws NotSupported when the kernel would ignore the advice; `shared`: for a memfd, which has a switch of its own.
void require_transparent_huge_pages(bool shared);

/// Explains why a mapping of reserved pages failed with errno `code`: ResourceExhausted with the pages that are free,
/// NotSupported when the kernel has no pages of that size, else PlatformError.
[[noreturn]] void throw_no_reserved_pages(std::uint64_t size, HugePages kind, int code);

}  // namespace vm::mem
