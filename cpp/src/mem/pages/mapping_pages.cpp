// Pages of a mapping taken back, given and counted: madvise, fallocate, mincore.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>

#include <cerrno>
#include <string>

#include "mem/pages/page_map.hpp"
#include "mem/pages/prefault.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"
#include "vm/mem/pages/mapping.hpp"

namespace vm::mem {

void HostMapping::discard(std::uint64_t offset, std::uint64_t size) {
  const std::string what = "giving back " + hex(size) + " bytes";
  if (fd() < 0) {
    // Private memory has no other owner: dropping the pages is enough.
    if (::madvise(data_ + offset, size, MADV_DONTNEED) == 0) return;
    if (errno == EINVAL && discard_unit_ != host_page_size())
      throw NotSupported(what + ": this kernel drops no huge pages (Linux 5.18 does); use a memfd");
    throw_system_error(what + " (madvise)", errno);
  }
  // Dropping shared pages from this mapping would leave them in the object.
  int result = -1;
  do {
    result = ::fallocate(fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(file_offset_ + offset),
                         static_cast<off_t>(size));
  } while (result != 0 && errno == EINTR);
  if (result != 0) throw_system_error(what + " (fallocate)", errno);
}

void HostMapping::populate(std::uint64_t offset, std::uint64_t size) {
  const auto address = reinterpret_cast<std::uintptr_t>(data_) + offset;
  const std::uintptr_t start = align_down(address, host_page_size());
  const int code = populate_write(reinterpret_cast<std::byte*>(start), address + size - start);
  if (code == 0) return;
  const std::string what = "populating " + hex(size) + " bytes";
  if (code == EINVAL) throw NotSupported(what + " needs Linux 5.14 (MADV_POPULATE_WRITE); touch the pages instead");
  if (code == ENOMEM) throw ResourceExhausted(what + ": the system has no memory for it");
  throw_system_error(what + " (madvise)", code);
}

std::uint64_t HostMapping::resident(std::uint64_t offset, std::uint64_t size) const {
  const auto address = reinterpret_cast<std::uintptr_t>(data_) + offset;
  return resident_bytes(align_down(address, host_page_size()), align_up(address + size, host_page_size()));
}

}  // namespace vm::mem
