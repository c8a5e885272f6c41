// Linux: memfd_create and file seals.
#include "vm/mem/pages/dual_mapping.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "mem/pages/map_pages.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/address.hpp"
#include "vm/core/error.hpp"
#include "vm/mem/pages/host_page.hpp"

namespace vm::mem {

namespace {

// linux/memfd.h of 6.3 and linux/fcntl.h of 5.1.
constexpr unsigned no_exec_seal = 8;       // MFD_NOEXEC_SEAL: the file is no program that somebody could start
constexpr int seal_future_write = 0x0010;  // F_SEAL_FUTURE_WRITE

UniqueFd make_file(std::uint64_t size) {
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  UniqueFd fd(::memfd_create("vm code", flags | no_exec_seal));
  if (!fd && errno == EINVAL) fd = UniqueFd(::memfd_create("vm code", flags));
  if (!fd) throw_system_error("cannot create a memfd for code", errno);
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) throw_no_memory(size, "memory for code", errno);
  return fd;
}

}  // namespace

DualMapping::DualMapping(std::uint64_t size) : size_(size), process_(::getpid()) {
  check_mapping_size(size, "memory for code");
  const std::uint64_t capacity = align_up(size, host_page_size());
  const UniqueFd fd = make_file(capacity);
  int code = 0;
  writable_ = map_pages(capacity, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0, code);
  if (!writable_) throw_no_memory(size, "memory for code", code);
  // Shared memory stays shared: a child could change the code of its parent, even after that has sealed it.
  if (::madvise(writable_.at(0), capacity, MADV_DONTFORK) != 0)
    throw_system_error("cannot keep the writable view of code from children of fork", errno);
  // Before the executable view is made, which therefore can never become writable. Before Linux 5.1 it could, by
  // mprotect from this process; nothing here does that.
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | seal_future_write | F_SEAL_SEAL) != 0 &&
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    throw_system_error("cannot seal memory for code", errno);
  }
  executable_ = map_pages(capacity, PROT_READ | PROT_EXEC, MAP_SHARED, fd.get(), 0, code);
  if (!executable_ && (code == EPERM || code == EACCES)) {
    throw NotSupported(
        "this system lets no shared memory be executable (a noexec mount, or a security policy such as "
        "SELinux execmem)");
  }
  if (!executable_) throw_no_memory(size, "memory for code", code);
}

bool DualMapping::in_child() const noexcept { return ::getpid() != process_; }

void DualMapping::seal() noexcept {
  // In a child somebody else may have memory where the view was.
  if (in_child()) writable_.release();
  writable_ = MappedPages();
}

void DualMapping::write(std::uint64_t offset, const void* code, std::uint64_t size) {
  require(offset, size, "write");
  if (sealed())
    throw AccessViolation("the code is sealed: its writable view is gone, or with the parent; make another mapping");
  if (size == 0) return;
  std::memcpy(writable_.at(offset), code, size);
  flush(offset, size);
}

void DualMapping::flush(std::uint64_t offset, std::uint64_t size) const {
  require(offset, size, "flush");
  const auto clear = [size](std::byte* at) {
    __builtin___clear_cache(reinterpret_cast<char*>(at), reinterpret_cast<char*>(at) + size);
  };
  if (!sealed()) clear(writable_.at(offset));  // data caches are cleaned by the address that wrote
  clear(executable_.at(offset));
}

void DualMapping::require(std::uint64_t offset, std::uint64_t size, const char* what) const {
  if (offset <= size_ && size <= size_ - offset) return;
  throw OutOfRange(std::string(what) + " of " + hex(size) + " bytes at offset " + hex(offset) +
                       ", but the mapping has " + hex(size_) + " bytes",
                   offset, size);
}

}  // namespace vm::mem
