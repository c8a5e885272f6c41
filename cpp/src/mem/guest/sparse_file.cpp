#include "mem/guest/sparse_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "mem/pages/system_error.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

// File systems keep holes in units of their block, nearly always 4 KiB.
constexpr std::uint64_t block_size = 4096;

bool all_zero(const std::byte* bytes, std::uint64_t count) noexcept {
  // Comparing the block with itself moved by one byte: all bytes equal the first.
  return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, count - 1) == 0;
}

/// The file that `path` means: behind symbolic links, so that renaming replaces the file and not the link.
std::string target_of(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::path target = std::filesystem::canonical(path, ignored);
  if (ignored) return path;  // nothing there yet
  if (!std::filesystem::is_regular_file(target, ignored)) {
    throw InvalidConfig("cannot save to " + path + ": it exists and is not a regular file");
  }
  return target.string();
}

}  // namespace

SparseFile::SparseFile(const std::string& path) : path_(target_of(path)) {
  constexpr mode_t mode = 0666;  // less what the process's umask takes away
  for (unsigned attempt = 0;; ++attempt) {
    std::string name = path_ + ".partial" + (attempt == 0 ? "" : std::to_string(attempt));
    fd_ = UniqueFd(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (fd_) {
      partial_path_ = std::move(name);
      return;
    }
    if (errno != EEXIST) throw_system_error("cannot create " + name, errno);
  }
}

SparseFile::~SparseFile() {
  if (!partial_path_.empty()) ::unlink(partial_path_.c_str());
}

void SparseFile::resize(std::uint64_t size) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
    throw_system_error("cannot make " + path_ + " " + hex(size) + " bytes large", errno);
  }
}

void SparseFile::write(std::uint64_t offset, const std::byte* from, std::uint64_t count) {
  std::uint64_t run = 0;  // start of the bytes that wait to be written
  std::uint64_t at = 0;
  while (at < count) {
    const std::uint64_t step = std::min(count - at, block_size - (offset + at) % block_size);
    if (all_zero(from + at, step)) {
      write_all(offset + run, from + run, at - run);
      run = at + step;
    }
    at += step;
  }
  write_all(offset + run, from + run, count - run);
}

void SparseFile::write_all(std::uint64_t offset, const std::byte* from, std::uint64_t count) {
  while (count > 0) {
    const ssize_t written = ::pwrite(fd_.get(), from, count, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    // EFAULT: the file behind `from` was truncated.
    if (written < 0) throw_system_error("cannot write " + path_ + " at offset " + hex(offset), errno);
    offset += static_cast<std::uint64_t>(written);
    from += written;
    count -= static_cast<std::uint64_t>(written);
  }
}

void SparseFile::commit() {
  if (std::rename(partial_path_.c_str(), path_.c_str()) != 0) throw_system_error("cannot create " + path_, errno);
  partial_path_.clear();
}

}  // namespace vm::mem
