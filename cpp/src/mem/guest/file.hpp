#pragma once
/// \file
/// An input file: opened once, measured once, read with positions that were checked.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vm/mem/pages/unique_fd.hpp"

namespace vm::mem {

class InputFile {
 public:
  /// Throws PlatformError, and NotSupported when `path` is neither a regular file nor a block device.
  InputFile(const std::string& path, bool writable);

  const std::string& path() const noexcept { return path_; }
  /// Bytes at the time of opening.
  std::uint64_t size() const noexcept { return size_; }

  /// True when [offset, offset + count) lies in the file.
  bool holds(std::uint64_t offset, std::uint64_t count) const noexcept {
    return offset <= size_ && count <= size_ - offset;
  }
  /// Exactly `count` bytes. Headers are read this way and not through a mapping, so that a file that shrinks meanwhile
  /// is an error and not a signal. Throws InvalidConfig when the file ends before, PlatformError.
  void read(std::uint64_t offset, void* destination, std::size_t count) const;
  /// The first `count` bytes, or all when the file is shorter.
  std::vector<std::byte> head(std::size_t count) const;

  /// Gives the descriptor away; nothing can be read afterwards.
  UniqueFd release() noexcept { return std::move(fd_); }

 private:
  std::string path_;
  UniqueFd fd_;
  std::uint64_t size_ = 0;
};

}  // namespace vm::mem
