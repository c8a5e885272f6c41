#include "ioctl.hpp"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "vm/core/error.hpp"

namespace vm::accel::kvm {

void throw_errno(const char* what, int code) {
  const std::string message = std::string(what) + ": " + std::strerror(code);
  switch (code) {
    case ENOMEM:
    case EMFILE:
    case ENFILE: throw ResourceExhausted(message);
    case ENOTTY:
    case EOPNOTSUPP: throw NotSupported(message + "; this kernel's KVM does not have it");
    default: throw PlatformError(message, code);
  }
}

int checked_ioctl(int fd, unsigned long request, std::uintptr_t argument, const char* what) {
  int result = -1;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  if (result < 0) throw_errno(what, errno);
  return result;
}

}  // namespace vm::accel::kvm
