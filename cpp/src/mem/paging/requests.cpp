#include "requests.hpp"

#include <vector>

#include "vm/core/address.hpp"
#include "vm/core/error.hpp"

namespace vm::mem::paging {
namespace {

std::string range_text(std::uint64_t first, std::uint64_t size) {
  return "[" + hex(first) + ", " + hex(first) + " + " + hex(size) + ")";
}

std::string inclusive_text(const VirtualRange& range) { return hex(range.first) + " to " + hex(range.last); }

std::string size_text(unsigned log2) {
  static constexpr const char* units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  return std::to_string(1U << log2 % 10) + " " + units[log2 / 10];
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 == words.size() ? " or " : ", ";
    text += words[i];
  }
  return text;
}

}  // namespace

std::string page_sizes(std::uint64_t sizes) {
  std::vector<std::string> words;
  for (unsigned log2 = 0; log2 < 64; ++log2)
    if (test_bit(sizes, log2)) words.push_back(size_text(log2));
  return join(words);
}

void check_virtual_range(const char* what, std::uint64_t vaddr, std::uint64_t size, std::uint64_t page_size,
                         const VirtualRange* ranges, int count) {
  if (size == 0 || !is_aligned(vaddr, page_size) || !is_aligned(size, page_size))
    throw InvalidConfig(std::string("cannot ") + what + " vaddr " + hex(vaddr) + ", size " + hex(size) +
                        ": both must be multiples of " + std::to_string(page_size) + " and size must not be 0");
  std::vector<std::string> existing;
  for (int i = 0; i < count; ++i) {
    const VirtualRange& range = ranges[i];
    if (vaddr >= range.first && vaddr <= range.last && size - 1 <= range.last - vaddr) return;
    existing.push_back(inclusive_text(range));
  }
  throw InvalidConfig(std::string("cannot ") + what + " " + range_text(vaddr, size) +
                      ": the virtual addresses that exist are " + (count == 0 ? "none at all" : join(existing)));
}

void check_access(const char* what, Access access) {
  if (access == Access::none)
    throw InvalidConfig(std::string("cannot ") + what +
                        " with no access at all; give at least one of read, write and execute, or unmap the range");
}

void refuse_access(const char* what, Access access, bool user) {
  throw InvalidConfig(std::string("cannot ") + what + " with " + to_string(access) + " for the " +
                      (user ? "user" : "supervisor") +
                      ": no page-table entry grants that under this configuration (AArch64 with SCTLR_EL1.WXN executes "
                      "nothing that is writable)");
}

void refuse_mapped(std::uint64_t vaddr, std::uint64_t page_size, std::uint64_t paddr) {
  throw InvalidConfig(hex(vaddr) + " is already mapped, to " + hex(paddr) + " by a page of " +
                      std::to_string(page_size) + " bytes; unmap it first");
}

void refuse_malformed(std::uint64_t vaddr, std::uint64_t entry_at, FaultReason reason) {
  throw InvalidConfig("the page-table entry at " + hex(entry_at) + " for " + hex(vaddr) +
                      " is present but malformed: " + describe(reason));
}

void refuse_paddr(std::uint64_t paddr, std::uint64_t page_size, unsigned physical_bits) {
  throw InvalidConfig("paddr " + hex(paddr) + " does not fit: a page of " + std::to_string(page_size) +
                      " bytes can name " + std::to_string(physical_bits) + " bits of physical address here");
}

void refuse_table(std::uint64_t vaddr, std::uint64_t table, const char* why) {
  throw InvalidConfig("the page table at " + hex(table) + ", which translates " + hex(vaddr) + ", " + why);
}

void refuse_read_only(std::uint64_t entry_at, const RegionTable& memory) {
  const Region* region = memory.find(entry_at);
  throw AccessViolation("the page-table entry at " + hex(entry_at) + " lies in read-only memory" +
                        (region == nullptr ? std::string() : " (" + region->name + ")") +
                        "; open the image writable, or copy it, to change its tables");
}

void refuse_visits(const char* what, std::uint64_t limit) {
  throw ResourceExhausted(std::string("gave up trying to ") + what + " after " + std::to_string(limit) +
                          " page tables: the tables point at each other in circles; take a smaller range");
}

}  // namespace vm::mem::paging
