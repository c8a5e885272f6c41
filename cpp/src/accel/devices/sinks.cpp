#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "vm/accel/devices/serial.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {

DescriptorSink::DescriptorSink(int fd) : fd_(::fcntl(fd, F_DUPFD_CLOEXEC, 0)) {
  if (!fd_) throw PlatformError("file descriptor " + std::to_string(fd) + ": " + std::strerror(errno), errno);
}

void DescriptorSink::write(const std::byte* data, std::size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(fd_.get(), data, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw PlatformError(std::string("writing a device's output: ") + std::strerror(errno), errno);
    data += written;
    size -= static_cast<std::size_t>(written);
  }
}

void BufferSink::write(const std::byte* data, std::size_t size) {
  const std::lock_guard<std::mutex> lock(mutex_);
  bytes_.append(reinterpret_cast<const char*>(data), size);
  // Trimmed rarely, so that a byte costs O(1).
  if (bytes_.size() / 2 > capacity_) {
    const std::size_t excess = bytes_.size() - capacity_;
    bytes_.erase(0, excess);
    dropped_ += excess;
  }
}

std::string BufferSink::text() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return bytes_.size() > capacity_ ? bytes_.substr(bytes_.size() - capacity_) : bytes_;
}

std::uint64_t BufferSink::dropped() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return dropped_ + (bytes_.size() > capacity_ ? bytes_.size() - capacity_ : 0);
}

}  // namespace vm::accel
