#include "support.hpp"

#include <stdlib.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <system_error>

namespace vm::mem::test {

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "vm-guest-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::generic_category(), name);
  directory_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::string TemporaryDirectory::write(const std::string& name, const Bytes& content) const {
  std::ofstream file(path(name), std::ios::binary);
  file.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
  return path(name);
}

std::size_t TemporaryDirectory::file_count() const {
  const std::filesystem::directory_iterator files(directory_);
  return static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

Bytes read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  return text(content);
}

Bytes pattern(std::size_t count, unsigned seed) {
  Bytes bytes(count);
  std::uint32_t state = seed * 2654435761U + 1;
  for (std::byte& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::byte>((state >> 24) | 1U);
  }
  return bytes;
}

Bytes text(const std::string& content) {
  const auto* from = reinterpret_cast<const std::byte*>(content.data());
  return Bytes(from, from + content.size());
}

Builder& Builder::number(std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
  return *this;
}

Builder& Builder::raw(const Bytes& bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

Builder& Builder::zeros(std::size_t count) {
  bytes_.resize(bytes_.size() + count);
  return *this;
}

Builder& Builder::patch(std::size_t offset, std::uint64_t value, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) bytes_.at(offset + i) = static_cast<std::byte>(value >> (8 * i));
  return *this;
}

Bytes lime_range(std::uint64_t first, std::uint64_t last, const Bytes& content, std::uint32_t version) {
  return Builder().u32(0x4C694D45).u32(version).u64(first).u64(last).u64(0).raw(content).bytes();
}

std::size_t program_header_at(std::size_t index, std::size_t word) {
  return word == 8 ? 64 + 56 * index : 52 + 32 * index;
}

Bytes elf_core(const std::vector<ElfSegment>& segments, std::uint16_t machine, std::size_t word) {
  const bool wide = word == 8;
  Builder file;
  file.raw(text("\x7F"
                "ELF"))
      .number(wide ? 2 : 1, 1)
      .number(1, 1)
      .number(1, 1)
      .zeros(9);
  file.u16(4).u16(machine).u32(1).number(0, word).number(wide ? 64 : 52, word).number(0, word).u32(0);
  file.u16(wide ? 64 : 52).u16(wide ? 56 : 32).u16(static_cast<std::uint16_t>(segments.size())).u16(0).u16(0).u16(0);
  std::uint64_t offset = program_header_at(segments.size(), word);
  for (const ElfSegment& segment : segments) {
    const std::uint64_t memory_size = segment.memory_size != 0 ? segment.memory_size : segment.content.size();
    file.u32(segment.type);
    if (wide) file.u32(0);
    file.number(offset, word).number(0, word).number(segment.paddr, word);
    file.number(segment.content.size(), word).number(memory_size, word);
    if (!wide) file.u32(0);
    file.number(0, word);
    offset += segment.content.size();
  }
  for (const ElfSegment& segment : segments) file.raw(segment.content);
  return file.bytes();
}

Bytes note(const std::string& name, std::uint32_t type, const Bytes& descriptor) {
  Builder builder;
  builder.u32(static_cast<std::uint32_t>(name.size() + 1)).u32(static_cast<std::uint32_t>(descriptor.size())).u32(type);
  builder.raw(text(name)).zeros(4 - name.size() % 4);
  builder.raw(descriptor).zeros((4 - descriptor.size() % 4) % 4);
  return builder.bytes();
}

::testing::AssertionResult mentions(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    if (text.find(part) == std::string::npos) {
      return ::testing::AssertionFailure() << "no \"" << part << "\" in: " << text;
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace vm::mem::test
