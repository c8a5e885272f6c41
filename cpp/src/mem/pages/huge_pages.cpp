#include "mem/pages/huge_pages.hpp"

#include <cerrno>
#include <fstream>
#include <optional>
#include <string>

#include "mem/pages/system_error.hpp"
#include "vm/core/error.hpp"

namespace vm::mem {

namespace {

constexpr const char* transparent_directory = "/sys/kernel/mm/transparent_hugepage/";

std::optional<std::uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

/// /sys/kernel/mm/hugepages/hugepages-2048kB/: one directory for each size that the kernel supports.
std::string reserved_directory(HugePages kind) {
  return "/sys/kernel/mm/hugepages/hugepages-" + std::to_string(reserved_page_size(kind) / 1024) + "kB/";
}

std::string size_name(HugePages kind) { return kind == HugePages::size_2m ? "2 MiB" : "1 GiB"; }

}  // namespace

std::uint64_t reserved_page_size(HugePages kind) noexcept {
  switch (kind) {
    case HugePages::size_2m: return std::uint64_t{1} << 21;
    case HugePages::size_1g: return std::uint64_t{1} << 30;
    case HugePages::automatic:
    case HugePages::none:
    case HugePages::transparent: break;
  }
  return 0;
}

void require_whole_huge_pages(std::uint64_t size, HugePages kind) {
  const std::uint64_t page = reserved_page_size(kind);
  if (page != 0 && size % page != 0) {
    throw InvalidConfig("memory on " + size_name(kind) + " pages must be a multiple of " + hex(page) + " bytes, got " +
                        hex(size));
  }
}

void require_transparent_huge_pages(bool shared) {
  const std::string path = std::string(transparent_directory) + (shared ? "shmem_enabled" : "enabled");
  std::ifstream file(path);
  std::string choices;
  if (!std::getline(file, choices)) {
    throw NotSupported("this kernel has no transparent huge pages (" + path + " is missing); leave huge_pages out");
  }
  if (choices.find("[never]") != std::string::npos || choices.find("[deny]") != std::string::npos) {
    throw NotSupported("transparent huge pages are switched off: " + path + " says \"" + choices +
                       "\"; write \"advise\" to it, or leave huge_pages out");
  }
}

void throw_no_reserved_pages(std::uint64_t size, HugePages kind, int code) {
  const std::uint64_t wanted = size / reserved_page_size(kind);
  const std::string directory = reserved_directory(kind);
  const auto total = read_number(directory + "nr_hugepages");
  if (!total) {
    throw NotSupported("this kernel has no huge pages of " + size_name(kind) + " (" + directory + " is missing)");
  }
  if (code != ENOMEM && code != ENOSPC) {
    throw_system_error("cannot map " + std::to_string(wanted) + " huge pages of " + size_name(kind), code);
  }
  const std::uint64_t free = read_number(directory + "free_hugepages").value_or(0);
  const std::uint64_t promised = read_number(directory + "resv_hugepages").value_or(0);
  throw ResourceExhausted(std::to_string(wanted) + " huge pages of " + size_name(kind) + " wanted, " +
                          std::to_string(free > promised ? free - promised : 0) + " free of " + std::to_string(*total) +
                          "; as root, write a larger number to " + directory + "nr_hugepages");
}

}  // namespace vm::mem
