#pragma once
/// \file
/// An output file that leaves holes for zeros and appears under its name only when it is complete.

#include <cstddef>
#include <cstdint>
#include <string>

#include "vm/mem/pages/unique_fd.hpp"

namespace vm::mem {

class SparseFile {
 public:
  /// Begins a file beside `path`. Throws PlatformError, InvalidConfig when `path` is something else than a file.
  explicit SparseFile(const std::string& path);
  SparseFile(const SparseFile&) = delete;
  SparseFile& operator=(const SparseFile&) = delete;
  /// Removes what was not committed.
  ~SparseFile();

  void resize(std::uint64_t size);
  /// Writes what of `from` is not zero; what was not written before reads as zeros already.
  void write(std::uint64_t offset, const std::byte* from, std::uint64_t count);
  /// Gives the file its name, in place of what was there.
  void commit();

 private:
  void write_all(std::uint64_t offset, const std::byte* from, std::uint64_t count);

  std::string path_;
  std::string partial_path_;
  UniqueFd fd_;
};

}  // namespace vm::mem
