#pragma once
/// \file
/// The loaders behind `load`, one per kind of image.

#include <optional>

#include "elf.hpp"
#include "image_reader.hpp"

namespace vm::accel::boot {

/// Where the multiboot header begins, if there is one.
std::optional<std::uint64_t> find_multiboot(const ImageReader& reader);
LoadedImage load_multiboot(const ImageReader& reader, mem::GuestMemory& memory, const Image& image,
                           const LoadOptions& options);

bool is_bzimage(const ImageReader& reader);
LoadedImage load_bzimage(const ImageReader& reader, mem::GuestMemory& memory, const LoadOptions& options);

LoadedImage load_pvh(const ImageReader& reader, mem::GuestMemory& memory, const LoadOptions& options);

}  // namespace vm::accel::boot
