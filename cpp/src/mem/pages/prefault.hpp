#pragma once
/// \file
/// Pages put under memory before it is used.

#include <cstddef>
#include <cstdint>

namespace vm::mem {

/// MADV_POPULATE_WRITE over whole pages, repeated while signals interrupt it; the errno, 0 when done.
int populate_write(std::byte* data, std::uint64_t size) noexcept;

/// Writes to every page of [data, data + size) without changing a byte, even while others use them.
void touch_pages(std::byte* data, std::uint64_t size) noexcept;

/// Threads that are worth starting for so many bytes on so many CPUs.
unsigned prefault_threads(std::uint64_t size, unsigned cpus) noexcept;

/// Puts a page under every byte of the range, which is page-aligned, by `threads` threads; 0: prefault_threads() for
/// the CPUs that this thread may use. Throws AccessViolation where pages are not writable, ResourceExhausted,
/// PlatformError.
void prefault_pages(std::byte* data, std::uint64_t size, unsigned threads);

}  // namespace vm::mem
