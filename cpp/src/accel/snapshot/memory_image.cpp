// Linux: memfd_create and file seals.
#include "vm/accel/snapshot/memory_image.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "accel/snapshot/zero_page.hpp"
#include "mem/pages/system_error.hpp"
#include "vm/core/error.hpp"

namespace vm::accel {
namespace {

constexpr std::uint64_t most_pages = std::uint64_t{1} << 50;  // of an address space of 62 bits

[[noreturn]] void throw_failed(const char* what, std::uint64_t pages, int code) {
  const std::string message =
      std::string(what) + " for a snapshot of " + hex(pages * MemoryImage::page_size) + " bytes of memory";
  if (code == ENOMEM || code == ENOSPC || code == EMFILE || code == ENFILE || code == EFBIG)
    throw ResourceExhausted(message);
  mem::throw_system_error(message, code);
}

}  // namespace

std::uint64_t MemoryImage::present_pages() const noexcept {
  std::uint64_t result = 0;
  for (const std::uint64_t word : present_) result += static_cast<std::uint64_t>(__builtin_popcountll(word));
  return result;
}

MemoryImage::Builder::Builder(std::uint64_t pages) : image_(std::make_shared<MemoryImage>(Token{})) {
  if (pages == 0 || pages > most_pages)
    throw InvalidConfig("a snapshot cannot hold memory of " + std::to_string(pages) + " pages");
  image_->pages_ = pages;
  image_->present_.resize((pages + 63) / 64);
  image_->fd_ = mem::UniqueFd(::memfd_create("vm-snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!image_->fd_) throw_failed("no memfd", pages, errno);
  if (::ftruncate(image_->fd_.get(), static_cast<off_t>(pages * page_size)) != 0)
    throw_failed("no memfd large enough", pages, errno);
}

void MemoryImage::Builder::write(std::uint64_t first, std::uint64_t count, const std::byte* from) {
  std::uint64_t run = 0;  // pages before `i` that are to be stored
  for (std::uint64_t i = 0; i < count; ++i) {
    if (!is_zero(from + i * page_size, page_size)) {
      image_->present_[(first + i) / 64] |= std::uint64_t{1} << ((first + i) % 64);
      ++run;
      continue;
    }
    store(first + i - run, run, from + (i - run) * page_size);
    run = 0;
  }
  store(first + count - run, run, from + (count - run) * page_size);
}

void MemoryImage::Builder::store(std::uint64_t first, std::uint64_t count, const std::byte* from) {
  std::uint64_t offset = first * page_size;
  std::uint64_t left = count * page_size;
  while (left != 0) {
    const ssize_t written = ::pwrite(image_->fd_.get(), from, left, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw_failed("no memory", image_->pages_, written < 0 ? errno : ENOSPC);
    const auto step = static_cast<std::uint64_t>(written);
    from += step;
    offset += step;
    left -= step;
  }
}

std::shared_ptr<const MemoryImage> MemoryImage::Builder::finish() {
  const std::uint64_t pages = image_->pages_;
  const int fd = image_->fd_.get();
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    throw_failed("the memfd cannot be sealed", pages, errno);
  // Private: before Linux 6.7 a sealed file cannot be mapped shared, not even for reading.
  void* view = ::mmap(nullptr, pages * page_size, PROT_READ, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
  if (view == MAP_FAILED) throw_failed("no address space", pages, errno);
  image_->view_ = mem::MappedPages(view, pages * page_size);
  return std::move(image_);
}

}  // namespace vm::accel
