#pragma once
/// \file
/// Host memory that regions point into, with its release. Everything that depends on the operating system's memory
/// calls sits behind this class.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "vm/mem/pages/unique_fd.hpp"

namespace vm::mem {

class PageFiller;

/// The pages behind anonymous memory and memfds.
enum class HugePages : std::uint8_t {
  automatic,    ///< as `transparent` where the kernel and the size allow, else as `none`; never an error
  none,         ///< the kernel's default for this process
  transparent,  ///< aligned to 2 MiB and advised MADV_HUGEPAGE; the kernel uses huge pages where it can
  size_2m,      ///< reserved 2 MiB pages (hugetlb), or ResourceExhausted
  size_1g,      ///< reserved 1 GiB pages (hugetlb), or ResourceExhausted
};

/// The result of one mmap, or nothing; unmapped by its owner.
class MappedPages {
 public:
  MappedPages() noexcept = default;
  MappedPages(void* address, std::size_t length) noexcept : address_(address), length_(length) {}
  MappedPages(MappedPages&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), length_(std::exchange(other.length_, 0)) {}
  MappedPages& operator=(MappedPages&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(length_, other.length_);
    return *this;
  }
  ~MappedPages();

  explicit operator bool() const noexcept { return address_ != nullptr; }
  std::byte* at(std::uint64_t offset) const noexcept { return static_cast<std::byte*>(address_) + offset; }
  std::size_t size() const noexcept { return length_; }
  /// Leaves the pages mapped; the caller unmaps them.
  void release() noexcept { address_ = nullptr; }

 private:
  void* address_ = nullptr;
  std::size_t length_ = 0;
};

/// One run of mapped host memory; the last owner of the shared_ptr unmaps it. Immutable after construction, so any
/// number of threads may use one. The bytes themselves are ordinary shared memory: who writes them while others read
/// must synchronise as for any other memory.
class HostMapping {
 public:
  /// Zero-filled private memory that costs nothing until touched; a first write then costs the page it falls on, which
  /// may be a huge one. `size` > 0; with reserved huge pages a multiple of
  /// their size. Throws InvalidConfig, ResourceExhausted (with what is free), NotSupported.
  static std::shared_ptr<HostMapping> anonymous(std::uint64_t size, HugePages huge_pages = HugePages::automatic);

  /// Read-only zeros that cost nothing even when read. Throws ResourceExhausted.
  static std::shared_ptr<HostMapping> zeros(std::uint64_t size);

  /// Zero-filled memory that another process can map through `fd`. `sealed` forbids everybody to change the file's
  /// size, so no holder of the descriptor can take pages away from under this mapping. `name` shows in /proc/PID/maps.
  static std::shared_ptr<HostMapping> memfd(std::uint64_t size, const std::string& name, HugePages huge_pages,
                                            bool sealed);

  /// [offset, offset + size) of an open file, shared with everybody who has it mapped; `path` is for messages. The
  /// caller has checked that the file is that long. A file that is truncated later kills the process with SIGBUS when
  /// the missing pages are touched: no check here can prevent that.
  static std::shared_ptr<HostMapping> file(UniqueFd fd, std::uint64_t offset, std::uint64_t size, bool writable,
                                           const std::string& path);

  /// All `size` bytes of a memory object of the kernel that is no file (a guest_memfd), shared and writable. Throws
  /// ResourceExhausted, PlatformError.
  static std::shared_ptr<HostMapping> memory_object(UniqueFd fd, std::uint64_t size, const std::string& name);
  /// [offset, offset + size) of an open file as memory of its own: pages are shared with everybody who maps them until
  /// they are written, and writes stay here. It costs what is written. The file is longer than that and nobody changes
  /// it meanwhile: seal a memfd. Throws InvalidConfig, ResourceExhausted, PlatformError.
  static std::shared_ptr<HostMapping> copy_on_write(int fd, std::uint64_t offset, std::uint64_t size);

  std::byte* data() const noexcept { return data_; }
  std::uint64_t size() const noexcept { return size_; }
  bool writable() const noexcept { return writable_; }
  /// The memfd's or the file's descriptor, or -1. Valid as long as this object.
  int fd() const noexcept { return fd_.get(); }
  /// True for memory made by `copy_on_write`: what was not written yet comes from elsewhere.
  bool copied_on_write() const noexcept { return copied_on_write_; }
  /// Where in that file `data()` lies.
  std::uint64_t file_offset() const noexcept { return file_offset_; }
  /// What `discard` works on multiples of: the size of a page; 0 where pages cannot be given back. They can where the
  /// bytes live nowhere else: in anonymous memory and memfds, not in files.
  std::uint64_t discard_unit() const noexcept { return discard_unit_; }
  /// Gives the pages of [offset, offset + size), which lies in the mapping and on multiples of `discard_unit`, back to
  /// the kernel; they read as zeros from now on, for everybody who shares them. Throws PlatformError, NotSupported.
  void discard(std::uint64_t offset, std::uint64_t size);
  /// Has the kernel put a page of its own under every byte of [offset, offset + size), which lies in the mapping,
  /// without changing it. Throws NotSupported before Linux 5.14, ResourceExhausted, PlatformError.
  void populate(std::uint64_t offset, std::uint64_t size);
  /// Bytes of the pages of [offset, offset + size), which lies in the mapping, that are in memory now (mincore(2)).
  std::uint64_t resident(std::uint64_t offset, std::uint64_t size) const;
  /// Who fills missing pages on first touch, or nullptr when there is nothing to fill.
  PageFiller* filler() const noexcept { return filler_; }
  /// For the filler itself, before anybody else sees the mapping; it must live as long as the mapping can be touched.
  void set_filler(PageFiller* filler) noexcept { filler_ = filler; }

 private:
  struct Parts;

 public:
  /// Only the functions above can make the argument.
  explicit HostMapping(Parts&& parts) noexcept;

 private:
  MappedPages pages_;
  std::byte* data_;
  std::uint64_t size_;
  bool writable_;
  UniqueFd fd_;
  std::uint64_t file_offset_;
  bool copied_on_write_;
  PageFiller* filler_ = nullptr;
  std::uint64_t discard_unit_ = 0;
};

}  // namespace vm::mem
