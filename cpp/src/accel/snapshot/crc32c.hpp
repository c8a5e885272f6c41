#pragma once
/// \file
/// CRC-32C (Castagnoli polynomial, RFC 3720 appendix B.4), eight bytes at a step ("slicing by 8": Kounavis and Berry,
/// A Systematic Approach to Building High Performance Software-Based CRC Generators, ISCC 2005).

#include <cstddef>
#include <cstdint>

namespace vm::accel {

/// The checksum of `size` bytes that follow bytes with the checksum `before` (0: none).
std::uint32_t crc32c(const void* data, std::size_t size, std::uint32_t before = 0) noexcept;

}  // namespace vm::accel
