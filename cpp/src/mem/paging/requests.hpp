#pragma once
/// \file
/// What a request to change page tables must satisfy whatever the format, and the words for what it runs into.

#include <cstdint>
#include <string>

#include "vm/core/access.hpp"
#include "vm/core/fault.hpp"
#include "vm/mem/guest/region.hpp"
#include "vm/mem/paging/format.hpp"

namespace vm::mem::paging {

/// Throws InvalidConfig unless [vaddr, vaddr + size) is made of whole pages and lies in one of `ranges`.
void check_virtual_range(const char* what, std::uint64_t vaddr, std::uint64_t size, std::uint64_t page_size,
                         const VirtualRange* ranges, int count);
/// Throws InvalidConfig for `Access::none`.
void check_access(const char* what, Access access);
/// Throws InvalidConfig: no entry of this format grants `access`.
[[noreturn]] void refuse_access(const char* what, Access access, bool user);

/// Throw InvalidConfig.
[[noreturn]] void refuse_mapped(std::uint64_t vaddr, std::uint64_t page_size, std::uint64_t paddr);
[[noreturn]] void refuse_malformed(std::uint64_t vaddr, std::uint64_t entry_at, FaultReason reason);
[[noreturn]] void refuse_paddr(std::uint64_t paddr, std::uint64_t page_size, unsigned physical_bits);
[[noreturn]] void refuse_table(std::uint64_t vaddr, std::uint64_t table, const char* why);
/// Throws AccessViolation.
[[noreturn]] void refuse_read_only(std::uint64_t entry_at, const RegionTable& memory);
/// Throws ResourceExhausted.
[[noreturn]] void refuse_visits(const char* what, std::uint64_t limit);

/// "4 KiB, 2 MiB or 1 GiB": bit n of `sizes` stands for 2^n bytes.
std::string page_sizes(std::uint64_t sizes);

}  // namespace vm::mem::paging
