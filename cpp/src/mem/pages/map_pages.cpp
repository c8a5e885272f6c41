#include "mem/pages/map_pages.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem {

namespace {

// Differences between pointers into one mapping must fit std::ptrdiff_t, with room for rounding and alignment.
constexpr std::uint64_t largest_mapping = std::uint64_t{1} << 62;
// log2 of the page size sits in these bits of the flags (mmap(2) MAP_HUGE_SHIFT, memfd_create(2)).
constexpr unsigned huge_size_shift = 26;
constexpr unsigned log2_2m = 21;
constexpr unsigned log2_1g = 30;

}  // namespace

unsigned huge_size_flags(HugePages kind) noexcept {
  if (kind == HugePages::size_2m) return log2_2m << huge_size_shift;
  if (kind == HugePages::size_1g) return log2_1g << huge_size_shift;
  return 0;
}

// A random access to guest memory then costs the host a quarter of the page-table levels and far fewer TLB misses.
bool wants_transparent(HugePages kind, std::uint64_t size) noexcept {
  return kind == HugePages::transparent || (kind == HugePages::automatic && size >= transparent_alignment);
}

void check_mapping_size(std::uint64_t size, const char* what) {
  if (size == 0) throw InvalidConfig(std::string(what) + " needs a size above 0");
  if (size > largest_mapping) {
    throw ResourceExhausted(std::string(what) + " of " + hex(size) + " bytes does not fit the address space");
  }
}

MappedPages map_pages(std::uint64_t length, int protection, int flags, int fd, std::uint64_t offset,
                      int& code) noexcept {
  void* address = ::mmap(nullptr, length, protection, flags, fd, static_cast<off_t>(offset));
  if (address == MAP_FAILED) {
    code = errno;
    return {};
  }
  return {address, length};
}

MappedPages map_aligned(std::uint64_t lead, std::uint64_t size, std::uint64_t tail, std::uint64_t alignment,
                        int protection, int& code) noexcept {
  const std::uint64_t wanted = lead + size + tail;
  const std::uint64_t slack = alignment - std::min(alignment, host_page_size());
  MappedPages all = map_pages(wanted + slack, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, code);
  if (!all || slack == 0) return all;
  const auto begin = reinterpret_cast<std::uintptr_t>(all.at(0));
  const std::uint64_t before = align_up(begin + lead, alignment) - lead - begin;
  const std::uint64_t after = slack - before;
  if (before != 0) {
    if (::munmap(all.at(0), before) != 0) {
      code = errno;
      return {};
    }
    // At once: what is unmapped may be somebody else's from now on, and is not to be unmapped again.
    MappedPages rest(all.at(before), wanted + after);
    all.release();
    all = std::move(rest);
  }
  if (after != 0 && ::munmap(all.at(wanted), after) != 0) {
    code = errno;
    return {};
  }
  std::byte* const start = all.at(0);
  all.release();
  return {start, wanted};
}

void throw_no_memory(std::uint64_t size, const char* what, int code) {
  const std::string asked = std::string(what) + " of " + hex(size) + " bytes";
  if (code == ENOMEM) throw ResourceExhausted("the system refuses " + asked + " (address space or overcommit limit)");
  throw_system_error("cannot map " + asked, code);
}

}  // namespace vm::mem
