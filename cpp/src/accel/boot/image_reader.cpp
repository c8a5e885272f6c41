#include "image_reader.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "vm/core/error.hpp"

namespace vm::accel::boot {

Image Image::read(const std::string& path) {
  std::error_code code;
  const auto status = std::filesystem::status(path, code);
  if (code || !std::filesystem::exists(status))
    throw PlatformError(path + ": " + std::strerror(code ? code.value() : ENOENT), code ? code.value() : ENOENT);
  if (!std::filesystem::is_regular_file(status)) throw InvalidConfig(path + " is not a regular file");
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) throw PlatformError(path + ": " + std::strerror(errno), errno);
  Image image{path, std::vector<std::byte>(static_cast<std::size_t>(file.tellg()))};
  if (image.bytes.empty()) throw InvalidConfig(path + " is empty");
  file.seekg(0);
  file.read(reinterpret_cast<char*>(image.bytes.data()), static_cast<std::streamsize>(image.bytes.size()));
  if (!file) throw PlatformError(path + ": reading it failed", EIO);
  return image;
}

void ImageReader::refuse(const std::string& what) const { throw InvalidConfig(image_.name + ": " + what); }

const std::byte* ImageReader::bytes(std::uint64_t offset, std::uint64_t length, const char* what) const {
  if (!holds(offset, length)) {
    refuse(std::string(what) + ", " + hex(length) + " bytes at offset " + hex(offset) +
           ", leaves the image, which has " + hex(size()));
  }
  return image_.bytes.data() + offset;
}

std::uint64_t ImageReader::number(std::uint64_t offset, unsigned length, const char* what) const {
  const std::byte* from = bytes(offset, length, what);
  std::uint64_t value = 0;
  for (unsigned i = 0; i < length; ++i) value |= std::to_integer<std::uint64_t>(from[i]) << (8 * i);
  return value;
}

void check_segment(const ImageReader& reader, const mem::GuestMemory& memory, const Segment& segment,
                   const char* what) {
  reader.bytes(segment.offset, segment.file_size, what);
  if (segment.file_size > segment.memory_size) {
    reader.refuse(std::string(what) + ": " + hex(segment.file_size) + " bytes of the image for " +
                  hex(segment.memory_size) + " bytes of memory");
  }
  if (segment.memory_size == 0) return;
  if (memory.table()->writable_at(segment.paddr, segment.memory_size) == nullptr) {
    reader.refuse(std::string(what) + " is for guest addresses " + hex(segment.paddr) + " and on, " +
                  hex(segment.memory_size) + " bytes, which do not lie in one writable region of the guest's memory");
  }
}

void write_segment(const ImageReader& reader, mem::GuestMemory& memory, const Segment& segment) {
  if (segment.file_size > 0)
    memory.write(segment.paddr, reader.bytes(segment.offset, segment.file_size, "segment"), segment.file_size);
  static const std::vector<std::byte> zeros(std::size_t{1} << 16);
  std::uint64_t at = segment.paddr + segment.file_size;
  for (std::uint64_t left = segment.memory_size - segment.file_size; left > 0;) {
    const std::uint64_t piece = std::min<std::uint64_t>(left, zeros.size());
    memory.write(at, zeros.data(), piece);
    at += piece;
    left -= piece;
  }
}

void Structure::put(std::size_t offset, std::uint64_t value, unsigned length) {
  for (unsigned i = 0; i < length; ++i) bytes_.at(offset + i) = static_cast<std::byte>(value >> (8 * i));
}

void Structure::put_bytes(std::size_t offset, const std::byte* from, std::size_t length) {
  for (std::size_t i = 0; i < length; ++i) bytes_.at(offset + i) = from[i];
}

void write_command_line(const ImageReader& reader, mem::GuestMemory& memory, const std::string& text,
                        std::uint64_t most) {
  const std::uint64_t room = std::min(most, place::command_line_end - place::command_line - 1);
  if (text.size() > room) {
    reader.refuse("the command line has " + std::to_string(text.size()) + " bytes, and there is room for " +
                  std::to_string(room));
  }
  if (text.find('\0') != std::string::npos) reader.refuse("the command line has a zero byte in it");
  memory.write(place::command_line, text.c_str(), text.size() + 1);
}

std::uint64_t place_module(const ImageReader& reader, const mem::GuestMemory& memory, std::uint64_t from,
                           std::uint64_t to, const Image& module, bool high) {
  const std::uint64_t size = module.bytes.size();
  const std::uint64_t first = align_up(from, page);
  if (first >= from && first <= to && size <= to - first) {
    const std::uint64_t at = high ? (to - size) / page * page : first;
    if (at >= first && memory.table()->writable_at(at, size) != nullptr) return at;
  }
  reader.refuse("the module " + module.name + " of " + hex(size) + " bytes does not fit into guest memory from " +
                hex(from) + " to " + hex(to) + "; give the guest more memory");
}

}  // namespace vm::accel::boot
