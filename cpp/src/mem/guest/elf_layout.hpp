#pragma once
/// \file
/// Where the fields of ELF files lie. Source: System V ABI, "Object Files"; the extended numbering of program headers
/// (PN_XNUM) as in Linux's elf(5).

#include <cstddef>
#include <cstdint>

namespace vm::mem::elf {

inline constexpr std::size_t class_at = 4;
inline constexpr std::size_t data_at = 5;
inline constexpr std::size_t identity_version_at = 6;
inline constexpr std::size_t type_at = 16;
inline constexpr std::size_t machine_at = 18;
inline constexpr std::size_t version_at = 20;

inline constexpr std::byte class_32{1};
inline constexpr std::byte class_64{2};
inline constexpr std::byte data_little_endian{1};
inline constexpr std::uint8_t current_version = 1;
inline constexpr std::uint16_t type_core = 4;

inline constexpr std::uint32_t segment_load = 1;
inline constexpr std::uint32_t segment_note = 4;
/// e_phnum when the count does not fit 16 bits: it is in sh_info of section 0 then.
inline constexpr std::uint16_t extended_count = 0xFFFF;

inline constexpr std::uint16_t machine_386 = 3;
inline constexpr std::uint16_t machine_arm = 40;
inline constexpr std::uint16_t machine_x86_64 = 62;
inline constexpr std::uint16_t machine_aarch64 = 183;
inline constexpr std::uint16_t machine_riscv = 243;

inline constexpr std::size_t note_header_size = 12;  // u32 name size, u32 descriptor size, u32 type
inline constexpr std::uint32_t note_prstatus = 1;

/// What differs between the 32-bit and the 64-bit class.
struct Layout {
  std::size_t word;  // bytes of an address or offset
  std::size_t header_size;
  std::size_t phoff_at, shoff_at, ehsize_at, phentsize_at, phnum_at, shentsize_at, shnum_at;
  std::size_t segment_size;
  std::size_t offset_at, paddr_at, filesz_at, memsz_at;  // in a program header; p_type is at 0
  std::size_t section_size;
  std::size_t section_info_at;
};

inline constexpr Layout layout_32{4, 52, 28, 32, 40, 42, 44, 46, 48, 32, 4, 12, 16, 20, 40, 28};
inline constexpr Layout layout_64{8, 64, 32, 40, 52, 54, 56, 58, 60, 56, 8, 24, 32, 40, 64, 44};

}  // namespace vm::mem::elf
