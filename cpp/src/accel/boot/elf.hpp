#pragma once
/// \file
/// ELF executables (System V ABI, gABI 4.1): their segments, notes and entry.

#include <cstdint>
#include <optional>
#include <vector>

#include "image_reader.hpp"

namespace vm::accel::boot {

bool is_elf(const ImageReader& reader) noexcept;

struct ElfImage {
  bool wide = false;        ///< ELF64
  std::uint64_t entry = 0;  ///< physical: translated by the segment that holds it
  std::vector<Segment> segments;
  std::uint64_t first = 0;  ///< of all segments together
  std::uint64_t last = 0;
  std::optional<std::uint32_t> pvh_entry;
};

/// Reads the headers and checks that everything lies in the image and in guest memory.
ElfImage read_elf(const ImageReader& reader, const mem::GuestMemory& memory);
void write_elf(const ImageReader& reader, mem::GuestMemory& memory, const ElfImage& elf);

}  // namespace vm::accel::boot
