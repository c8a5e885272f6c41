#pragma once
/// \file
/// What newer kernels understand and older headers do not name: linux/userfaultfd.h up to 6.8, linux/fs.h of 6.7.
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

struct PageRun {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t categories;
};
struct PagemapScan {
  std::uint64_t size;
  std::uint64_t flags;
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t walk_end;
  std::uint64_t vec;
  std::uint64_t vec_len;
  std::uint64_t max_pages;
  std::uint64_t category_inverted;
  std::uint64_t category_mask;
  std::uint64_t category_anyof_mask;
  std::uint64_t return_mask;
};
inline constexpr unsigned long ioctl_pagemap_scan = _IOWR('f', 16, PagemapScan);
inline constexpr std::uint64_t scan_protect_matching = 1;
inline constexpr std::uint64_t scan_check_async = 2;
inline constexpr std::uint64_t page_is_written = 2;
inline constexpr std::uint64_t page_is_present = 8;
inline constexpr std::uint64_t page_is_swapped = 16;

}  // namespace vm::mem::abi
