// Linux: mmap, memfd_create, hugetlb and file seals.
#include "vm/mem/pages/mapping.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

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

// f_type of hugetlbfs and of memfds with huge pages (statfs(2)).
constexpr unsigned long hugetlbfs_magic = 0x958458f6;

/// What offset and length of a mapping of this file must be multiples of.
std::uint64_t file_granularity(int fd) noexcept {
  struct statfs facts = {};
  const bool huge = ::fstatfs(fd, &facts) == 0 && static_cast<unsigned long>(facts.f_type) == hugetlbfs_magic;
  return huge ? static_cast<std::uint64_t>(facts.f_bsize) : host_page_size();
}

/// The first multiple of `alignment` in `pages`, as an offset.
std::uint64_t aligned_offset(const MappedPages& pages, std::uint64_t alignment) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(pages.at(0));
  return align_up(address, alignment) - address;
}

void advise_huge(std::byte* data, std::uint64_t size, HugePages kind) {
  if (::madvise(data, size, MADV_HUGEPAGE) != 0 && kind != HugePages::automatic) {
    throw_system_error("madvise refuses transparent huge pages", errno);
  }
}

}  // namespace

MappedPages::~MappedPages() {
  if (address_ != nullptr) ::munmap(address_, length_);
}

struct HostMapping::Parts {
  MappedPages pages;
  std::uint64_t offset;  // of the data in `pages`
  std::uint64_t size;
  bool writable;
  UniqueFd fd;
  std::uint64_t file_offset;
  bool copied_on_write = false;
};

HostMapping::HostMapping(Parts&& parts) noexcept
    : pages_(std::move(parts.pages)),
      data_(pages_.at(parts.offset)),
      size_(parts.size),
      writable_(parts.writable),
      fd_(std::move(parts.fd)),
      file_offset_(parts.file_offset),
      copied_on_write_(parts.copied_on_write) {}

std::shared_ptr<HostMapping> HostMapping::anonymous(std::uint64_t size, HugePages huge_pages) {
  check_mapping_size(size, "anonymous memory");
  require_whole_huge_pages(size, huge_pages);
  const bool reserved = reserved_page_size(huge_pages) != 0;
  const bool transparent = wants_transparent(huge_pages, size);
  if (huge_pages == HugePages::transparent) require_transparent_huge_pages(false);

  // Reserved pages are claimed here, so that their lack is an error now and not a SIGBUS at the first touch.
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (reserved ? MAP_HUGETLB : MAP_NORESERVE) |
                    static_cast<int>(huge_size_flags(huge_pages));
  int code = 0;
  auto pages = map_pages(size + (transparent ? transparent_alignment : 0), PROT_READ | PROT_WRITE, flags, -1, 0, code);
  if (!pages && reserved) throw_no_reserved_pages(size, huge_pages, code);
  if (!pages) throw_no_memory(size, "anonymous memory", code);

  const std::uint64_t offset = transparent ? aligned_offset(pages, transparent_alignment) : 0;
  if (transparent) advise_huge(pages.at(offset), size, huge_pages);
  auto mapping = std::make_shared<HostMapping>(Parts{std::move(pages), offset, size, true, UniqueFd(), 0});
  mapping->discard_unit_ = reserved ? reserved_page_size(huge_pages) : host_page_size();
  return mapping;
}

std::shared_ptr<HostMapping> HostMapping::zeros(std::uint64_t size) {
  check_mapping_size(size, "zero memory");
  int code = 0;
  auto pages = map_pages(size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, code);
  if (!pages) throw_no_memory(size, "zero memory", code);
  return std::make_shared<HostMapping>(Parts{std::move(pages), 0, size, false, UniqueFd(), 0});
}

std::shared_ptr<HostMapping> HostMapping::memfd(std::uint64_t size, const std::string& name, HugePages huge_pages,
                                                bool sealed) {
  check_mapping_size(size, "a memfd");
  require_whole_huge_pages(size, huge_pages);
  const bool reserved = reserved_page_size(huge_pages) != 0;
  const bool transparent = wants_transparent(huge_pages, size);
  if (huge_pages == HugePages::transparent) require_transparent_huge_pages(true);

  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (reserved ? MFD_HUGETLB : 0U) | huge_size_flags(huge_pages);
  UniqueFd fd(::memfd_create(name.c_str(), flags));
  if (!fd && reserved) throw_no_reserved_pages(size, huge_pages, errno);
  if (!fd) throw_system_error("cannot create the memfd \"" + name + "\"", errno);
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) throw_no_memory(size, "a memfd", errno);
  if (sealed && ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    throw_system_error("cannot seal the size of the memfd \"" + name + "\"", errno);
  }

  int code = 0;
  auto pages = map_pages(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0, code);
  if (!pages && reserved) throw_no_reserved_pages(size, huge_pages, code);
  if (!pages) throw_no_memory(size, "a memfd", code);
  if (transparent) advise_huge(pages.at(0), size, huge_pages);
  auto mapping = std::make_shared<HostMapping>(Parts{std::move(pages), 0, size, true, std::move(fd), 0});
  mapping->discard_unit_ = reserved ? reserved_page_size(huge_pages) : host_page_size();
  return mapping;
}

std::shared_ptr<HostMapping> HostMapping::file(UniqueFd fd, std::uint64_t offset, std::uint64_t size, bool writable,
                                               const std::string& path) {
  check_mapping_size(size, "a file mapping");
  const std::uint64_t granularity = file_granularity(fd.get());
  const std::uint64_t start = align_down(offset, granularity);
  const std::uint64_t length = align_up(offset - start + size, granularity);
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;

  int code = 0;
  auto pages = map_pages(length, protection, MAP_SHARED, fd.get(), start, code);
  // Some network and FUSE file systems offer private mappings only; for reading there is no difference.
  if (!pages && !writable && code == ENODEV) pages = map_pages(length, protection, MAP_PRIVATE, fd.get(), start, code);
  if (!pages) throw_system_error("cannot map " + hex(size) + " bytes of " + path + " at offset " + hex(offset), code);
  return std::make_shared<HostMapping>(Parts{std::move(pages), offset - start, size, writable, std::move(fd), offset});
}

std::shared_ptr<HostMapping> HostMapping::memory_object(UniqueFd fd, std::uint64_t size, const std::string& name) {
  check_mapping_size(size, "a memory object");
  int code = 0;
  auto pages = map_pages(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0, code);
  if (!pages) throw_no_memory(size, name.c_str(), code);
  auto mapping = std::make_shared<HostMapping>(Parts{std::move(pages), 0, size, true, std::move(fd), 0});
  mapping->discard_unit_ = host_page_size();
  return mapping;
}

std::shared_ptr<HostMapping> HostMapping::copy_on_write(int fd, std::uint64_t offset, std::uint64_t size) {
  check_mapping_size(size, "a copy-on-write mapping");
  const std::uint64_t granularity = file_granularity(fd);
  const std::uint64_t start = align_down(offset, granularity);
  const std::uint64_t length = align_up(offset - start + size, granularity);
  int code = 0;
  auto pages = map_pages(length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, start, code);
  if (!pages) throw_no_memory(size, "a copy-on-write mapping", code);
  return std::make_shared<HostMapping>(Parts{std::move(pages), offset - start, size, true, UniqueFd(), 0, true});
}

}  // namespace vm::mem
