#pragma once
/// \file
/// Hand-made image files for the tests of guest memory, and a way to look at errors.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

namespace vm::mem::test {

using Bytes = std::vector<std::byte>;

/// A directory that goes away with its test.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();

  std::string path(const std::string& name) const { return (directory_ / name).string(); }
  /// Writes a file and gives back its path.
  std::string write(const std::string& name, const Bytes& content) const;
  std::size_t file_count() const;

 private:
  std::filesystem::path directory_;
};

Bytes read_file(const std::string& path);
/// `count` bytes that differ from seed to seed and are never 0.
Bytes pattern(std::size_t count, unsigned seed = 1);
Bytes text(const std::string& content);

/// Little-endian numbers and byte runs, one after the other.
class Builder {
 public:
  Builder& u16(std::uint16_t value) { return number(value, 2); }
  Builder& u32(std::uint32_t value) { return number(value, 4); }
  Builder& u64(std::uint64_t value) { return number(value, 8); }
  Builder& number(std::uint64_t value, std::size_t bytes);
  Builder& raw(const Bytes& bytes);
  Builder& zeros(std::size_t count);
  /// Overwrites a number at `offset`.
  Builder& patch(std::size_t offset, std::uint64_t value, std::size_t bytes);
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

Bytes lime_range(std::uint64_t first, std::uint64_t last, const Bytes& content, std::uint32_t version = 1);

struct ElfSegment {
  std::uint64_t paddr = 0;
  Bytes content;
  std::uint64_t memory_size = 0;  // 0: as large as the content
  std::uint32_t type = 1;
};

/// An ELF core; contents follow the headers without alignment. `word` 8 or 4 is the class.
Bytes elf_core(const std::vector<ElfSegment>& segments, std::uint16_t machine = 62, std::size_t word = 8);
/// File offset of program header `index` of such a core.
std::size_t program_header_at(std::size_t index, std::size_t word = 8);

Bytes note(const std::string& name, std::uint32_t type, const Bytes& descriptor);

/// Runs `action` and gives back the message of the `Error` that it must throw.
template <class Error, class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no exception";
  return {};
}

/// True when `text` holds all of `parts`.
::testing::AssertionResult mentions(const std::string& text, std::initializer_list<const char*> parts);

}  // namespace vm::mem::test
