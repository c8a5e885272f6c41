#pragma once
/// \file
/// The header of one LiME range; all numbers little-endian.

#include <cstddef>
#include <cstdint>

namespace vm::mem::lime {

inline constexpr std::uint32_t magic = 0x4C694D45;  // "EMiL" in the file
inline constexpr std::uint32_t version = 1;
inline constexpr std::size_t header_size = 32;
inline constexpr std::size_t magic_at = 0;
inline constexpr std::size_t version_at = 4;
inline constexpr std::size_t first_at = 8;
inline constexpr std::size_t last_at = 16;  // inclusive

}  // namespace vm::mem::lime
