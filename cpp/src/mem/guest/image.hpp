#pragma once
/// \file
/// From an image file to regions: which format it is, what its headers claim, and whether the claims can be true.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "mem/guest/file.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::mem {

/// An opened image: what GuestMemory is made of.
struct Image {
  std::vector<Region> regions;
  ImageFacts facts;
};

/// Decides by content. Throws NotSupported, naming it, for a known format that has to be converted first.
ImageFormat detect_image_format(const InputFile& file);

Image load_raw(InputFile file, bool writable);
Image load_lime(InputFile file, bool writable);
Image load_elf(InputFile file, bool writable);

/// An unsigned little-endian number of sizeof(Number) bytes; every format here is little-endian.
template <class Number>
Number load_little_endian(const std::byte* from) noexcept {
  Number number = 0;
  for (std::size_t i = sizeof(Number); i-- > 0;) {
    number = static_cast<Number>(static_cast<std::uint64_t>(number) << 8 | std::to_integer<std::uint64_t>(from[i]));
  }
  return number;
}

template <class Number>
void store_little_endian(std::byte* to, Number number) noexcept {
  for (std::size_t i = 0; i < sizeof(Number); ++i) to[i] = static_cast<std::byte>(number >> (8 * i));
}

}  // namespace vm::mem
