#pragma once
/// \file
/// What newer kernels understand and older headers (linux/userfaultfd.h up to 6.8) do not name.
/// The numbers are the kernel's ABI; whether they work is asked at run time.

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace vm::mem::abi {

inline constexpr std::uint64_t user_mode_only = 1;  // UFFD_USER_MODE_ONLY, a flag of userfaultfd(2)
inline constexpr std::uint64_t feature_write_protect = std::uint64_t{1} << 0;
inline constexpr std::uint64_t feature_missing_hugetlbfs = std::uint64_t{1} << 4;
inline constexpr std::uint64_t feature_wp_hugetlbfs = std::uint64_t{1} << 12;
inline constexpr std::uint64_t feature_poison = std::uint64_t{1} << 14;
inline constexpr std::uint64_t feature_wp_async = std::uint64_t{1} << 15;

struct Poison {
  uffdio_range range;
  std::uint64_t mode;
  std::int64_t updated;
};
inline constexpr unsigned long ioctl_poison = _IOWR(UFFDIO, 0x08, Poison);

/// Opens a userfaultfd through /dev/userfaultfd (Linux 6.1).
inline constexpr unsigned long ioctl_new = _IO(UFFDIO, 0x00);

}  // namespace vm::mem::abi
