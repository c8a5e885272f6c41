// The loop that anybody would write first, and the baseline of every ratio: x86 4-level tables, bounds and present
// checks only, no rights, no page sizes, no fault reasons. The same loop is the baseline in bench/cpp/mem/paging.cpp.

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

constexpr std::uint64_t page = 4096;

std::uint64_t walk(const unsigned char* bytes, std::uint64_t size, std::uint64_t root, std::uint64_t vaddr) {
  std::uint64_t table = root;
  for (int shift = 39; shift >= 12; shift -= 9) {
    const std::uint64_t at = table + (vaddr >> shift & 511) * 8;
    if (at + 8 > size) return UINT64_MAX;
    std::uint64_t entry;
    std::memcpy(&entry, bytes + at, sizeof entry);
    if ((entry & 1) == 0) return UINT64_MAX;
    table = entry & 0x000F'FFFF'FFFF'F000;
  }
  return table | (vaddr & (page - 1));
}

}  // namespace

/// `bytes` holds `size` bytes of guest-physical memory from address 0; writes `count` physical addresses.
extern "C" void naive_walk(const unsigned char* bytes, std::uint64_t size, std::uint64_t root,
                           const std::uint64_t* vaddr, std::size_t count, std::uint64_t* paddr) {
  for (std::size_t i = 0; i < count; ++i) paddr[i] = walk(bytes, size, root, vaddr[i]);
}
