// Linux: how a block is mapped.
#include "vm/mem/pages/page_block.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "mem/pages/huge_pages.hpp"
#include "mem/pages/map_pages.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem {

namespace {

// Sums of a size, two guards and an alignment stay below 2^63.
constexpr std::uint64_t largest_guard = std::uint64_t{1} << 46;
constexpr std::uint64_t largest_alignment = std::uint64_t{1} << 46;

void check(std::uint64_t size, const PageOptions& options) {
  check_mapping_size(size, "a page block");
  if (!is_power_of_two(options.alignment) || options.alignment > largest_alignment) {
    throw InvalidConfig("alignment is " + std::to_string(options.alignment) + "; it is a power of two up to 2**46");
  }
  if (options.guard > largest_guard) {
    throw InvalidConfig("guard is " + hex(options.guard) + " bytes; at most 2**46 make sense");
  }
  const std::uint64_t reserved = reserved_page_size(options.huge_pages);
  if (reserved == 0) return;
  if (options.guard != 0) {
    throw InvalidConfig(
        "there are no guards around reserved huge pages, because a guard would take one of them; "
        "leave guard out, or protect the first and the last page of a larger block");
  }
  if (options.alignment > reserved) {
    throw InvalidConfig("reserved huge pages are aligned to their size, " + hex(reserved) + ", not to " +
                        hex(options.alignment));
  }
}

}  // namespace

struct PageBlock::Parts {
  MappedPages pages;
  std::uint64_t capacity = 0;
  std::uint64_t alignment = 0;
  std::uint64_t guard = 0;
  std::uint64_t page = 0;
  HugePages kind = HugePages::none;
  std::string refused;

  static Parts of_reserved_pages(std::uint64_t size, HugePages kind);
  static Parts of_ordinary_pages(std::uint64_t size, const PageOptions& options, HugePages kind);
  static Parts map(std::uint64_t size, const PageOptions& options);
};

PageBlock::Parts PageBlock::Parts::of_reserved_pages(std::uint64_t size, HugePages kind) {
  Parts parts;
  parts.page = parts.alignment = reserved_page_size(kind);
  parts.capacity = align_up(size, parts.page);
  parts.kind = kind;
  // Without MAP_NORESERVE, so that a lack of pages is an error now and not a SIGBUS at the first touch.
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | static_cast<int>(huge_size_flags(kind));
  int code = 0;
  parts.pages = map_pages(parts.capacity, PROT_READ | PROT_WRITE, flags, -1, 0, code);
  if (!parts.pages) throw_no_reserved_pages(parts.capacity, kind, code);
  return parts;
}

PageBlock::Parts PageBlock::Parts::of_ordinary_pages(std::uint64_t size, const PageOptions& options, HugePages kind) {
  const bool transparent = wants_transparent(kind, size);
  Parts parts;
  parts.page = host_page_size();
  parts.alignment = std::max({options.alignment, parts.page, transparent ? transparent_alignment : 1});
  parts.capacity = align_up(size, parts.page);
  parts.guard = align_up(options.guard, parts.page);
  // Inaccessible first and opened afterwards: what lies around the block is a guard from the beginning.
  int code = 0;
  parts.pages = map_aligned(parts.guard, parts.capacity, parts.guard, parts.alignment, PROT_NONE, code);
  if (!parts.pages) throw_no_memory(size, "a page block", code);
  std::byte* const data = parts.pages.at(parts.guard);
  if (::mprotect(data, parts.capacity, PROT_READ | PROT_WRITE) != 0) throw_no_memory(size, "a page block", errno);
  if (transparent && ::madvise(data, parts.capacity, MADV_HUGEPAGE) == 0) parts.kind = HugePages::transparent;
  return parts;
}

PageBlock::Parts PageBlock::Parts::map(std::uint64_t size, const PageOptions& options) {
  check(size, options);
  HugePages kind = options.huge_pages;
  std::string refused;
  try {
    if (reserved_page_size(kind) != 0) return of_reserved_pages(size, kind);
    if (kind == HugePages::transparent) require_transparent_huge_pages(false);
  } catch (const VmError& error) {
    if (!options.fallback) throw;
    refused = error.what();
    kind = HugePages::automatic;
  }
  Parts parts = of_ordinary_pages(size, options, kind);
  parts.refused = std::move(refused);
  return parts;
}

PageBlock::PageBlock(std::uint64_t size, const PageOptions& options)
    : PageBlock(Parts::map(size, options), size, options.wx_policy) {}

PageBlock::PageBlock(Parts parts, std::uint64_t size, WxPolicy policy)
    : size_(size),
      capacity_(parts.capacity),
      alignment_(parts.alignment),
      guard_(parts.guard),
      huge_pages_(parts.kind),
      refused_(std::move(parts.refused)),
      pages_(std::move(parts.pages)),
      data_(pages_.at(guard_)),
      protection_(data_, capacity_, parts.page, policy, Access::read | Access::write),
      process_(::getpid()) {}

PageBlock::~PageBlock() {
  // What a child of fork does not have, somebody else may have mapped there since.
  if (missing_in_children_.load(std::memory_order_relaxed) && ::getpid() != process_) pages_.release();
}

}  // namespace vm::mem
