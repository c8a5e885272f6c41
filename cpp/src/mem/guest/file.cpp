#include "mem/guest/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "mem/pages/system_error.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

InputFile::InputFile(const std::string& path, bool writable) : path_(path) {
  // O_NONBLOCK: opening a FIFO must not wait for its writer; regular files ignore it.
  fd_ = UniqueFd(::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK));
  if (!fd_) throw_system_error("cannot open " + path + (writable ? " for writing" : ""), errno);
  struct stat status = {};
  if (::fstat(fd_.get(), &status) != 0) throw_system_error("cannot examine " + path, errno);
  if (S_ISREG(status.st_mode)) {
    size_ = static_cast<std::uint64_t>(status.st_size);
  } else if (S_ISBLK(status.st_mode)) {
    const off_t end = ::lseek(fd_.get(), 0, SEEK_END);
    if (end < 0) throw_system_error("cannot measure " + path, errno);
    size_ = static_cast<std::uint64_t>(end);
  } else {
    throw NotSupported(path +
                       " is neither a regular file nor a block device, so it cannot be mapped; copy it to a file");
  }
}

void InputFile::read(std::uint64_t offset, void* destination, std::size_t count) const {
  auto* to = static_cast<std::byte*>(destination);
  while (count > 0) {
    const ssize_t got = holds(offset, count) ? ::pread(fd_.get(), to, count, static_cast<off_t>(offset)) : 0;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_system_error("cannot read " + path_ + " at offset " + hex(offset), errno);
    if (got == 0) {
      throw InvalidConfig(path_ + " is truncated: " + std::to_string(count) + " more bytes are needed at file offset " +
                          hex(offset) + ", the file has " + hex(size_) + " bytes");
    }
    to += got;
    offset += static_cast<std::uint64_t>(got);
    count -= static_cast<std::size_t>(got);
  }
}

std::vector<std::byte> InputFile::head(std::size_t count) const {
  std::vector<std::byte> bytes(static_cast<std::size_t>(std::min<std::uint64_t>(count, size_)));
  read(0, bytes.data(), bytes.size());
  return bytes;
}

}  // namespace vm::mem
