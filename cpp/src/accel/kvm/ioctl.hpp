#pragma once
/// \file
/// One system call, its failure as an exception.

#include <cstdint>
#include <string>

namespace vm::accel::kvm {

/// The result of ioctl(fd, request, argument). EINTR is tried again. Throws what `throw_errno` throws.
int checked_ioctl(int fd, unsigned long request, std::uintptr_t argument, const char* what);

inline int checked_ioctl(int fd, unsigned long request, const char* what) {
  return checked_ioctl(fd, request, std::uintptr_t{0}, what);
}
template <class T>
int checked_ioctl(int fd, unsigned long request, T* argument, const char* what) {
  return checked_ioctl(fd, request, reinterpret_cast<std::uintptr_t>(argument), what);
}

/// ResourceExhausted for ENOMEM, EMFILE and ENFILE, NotSupported for ENOTTY and EOPNOTSUPP, else PlatformError; `what`
/// is the request's name: "KVM_CREATE_VM".
[[noreturn]] void throw_errno(const char* what, int code);

}  // namespace vm::accel::kvm
