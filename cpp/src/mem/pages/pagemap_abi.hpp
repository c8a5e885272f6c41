#pragma once
/// \file
/// PAGEMAP_SCAN of Linux 6.7, which older headers (linux/fs.h) do not name. The numbers are the kernel's ABI
/// (Documentation/admin-guide/mm/pagemap.rst); whether they work is asked at run time.

#include <sys/ioctl.h>

#include <cstdint>

namespace vm::mem::abi {

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
inline constexpr std::uint64_t page_is_zero_page = 32;
inline constexpr std::uint64_t page_is_huge = 64;

}  // namespace vm::mem::abi
