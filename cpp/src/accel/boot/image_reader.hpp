#pragma once
/// \file
/// Bytes of an image and of guest memory, checked before they are touched.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vm/accel/boot/loader.hpp"

namespace vm::accel::boot {

/// Little-endian numbers from an image. Everything throws InvalidConfig naming `what` when the image is too short.
class ImageReader {
 public:
  explicit ImageReader(const Image& image) noexcept : image_(image) {}

  std::uint64_t size() const noexcept { return image_.bytes.size(); }
  bool holds(std::uint64_t offset, std::uint64_t length) const noexcept {
    return offset <= size() && length <= size() - offset;
  }
  const std::byte* bytes(std::uint64_t offset, std::uint64_t length, const char* what) const;
  std::uint64_t number(std::uint64_t offset, unsigned length, const char* what) const;
  std::uint8_t u8(std::uint64_t offset, const char* what) const {
    return static_cast<std::uint8_t>(number(offset, 1, what));
  }
  std::uint16_t u16(std::uint64_t offset, const char* what) const {
    return static_cast<std::uint16_t>(number(offset, 2, what));
  }
  std::uint32_t u32(std::uint64_t offset, const char* what) const {
    return static_cast<std::uint32_t>(number(offset, 4, what));
  }
  std::uint64_t u64(std::uint64_t offset, const char* what) const { return number(offset, 8, what); }

  /// InvalidConfig: "<name>: <what>".
  [[noreturn]] void refuse(const std::string& what) const;

 private:
  const Image& image_;
};

/// A part of an image for guest memory: `file_size` bytes from `offset`, then zeros up to `memory_size`.
struct Segment {
  std::uint64_t offset = 0;
  std::uint64_t file_size = 0;
  std::uint64_t paddr = 0;
  std::uint64_t memory_size = 0;
};

/// Refuses a segment that does not lie in writable guest memory or whose bytes are not in the image.
void check_segment(const ImageReader& reader, const mem::GuestMemory& memory, const Segment& segment, const char* what);
/// Copies and clears. The segment was checked.
void write_segment(const ImageReader& reader, mem::GuestMemory& memory, const Segment& segment);

/// A structure that is built before it is written to the guest: little-endian numbers at offsets.
class Structure {
 public:
  explicit Structure(std::size_t size) : bytes_(size) {}
  void put(std::size_t offset, std::uint64_t value, unsigned length);
  void put_bytes(std::size_t offset, const std::byte* from, std::size_t length);
  std::size_t size() const noexcept { return bytes_.size(); }
  void write(mem::GuestMemory& memory, std::uint64_t paddr) const { memory.write(paddr, bytes_.data(), bytes_.size()); }

 private:
  std::vector<std::byte> bytes_;
};

/// Writes `text` and its zero to place::command_line. Refuses one that is longer than `most` bytes or than its place.
void write_command_line(const ImageReader& reader, mem::GuestMemory& memory, const std::string& text,
                        std::uint64_t most = UINT64_MAX);

/// A place of `size` bytes for a module between `from` and `to`, at a page's start; the last one when `high`. Refuses
/// when there is none.
std::uint64_t place_module(const ImageReader& reader, const mem::GuestMemory& memory, std::uint64_t from,
                           std::uint64_t to, const Image& module, bool high);

inline constexpr std::uint64_t page = 4096;
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) noexcept {
  return (value + (alignment - 1)) / alignment * alignment;
}

}  // namespace vm::accel::boot
