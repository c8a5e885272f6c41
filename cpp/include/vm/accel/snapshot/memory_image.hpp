#pragma once
/// \file
/// The memory of a VM at one moment, which any number of VMs can share.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vm/mem/pages/mapping.hpp"
#include "vm/mem/pages/unique_fd.hpp"

namespace vm::accel {

/// Immutable: a memfd that is sealed against every change, also from outside. Pages of zeros take no memory. Any number
/// of threads.
class MemoryImage {
 public:
  static constexpr std::uint64_t page_size = 4096;

  class Builder;

  std::uint64_t pages() const noexcept { return pages_; }
  /// Whether page `index` is anything else than zeros.
  bool present(std::uint64_t index) const noexcept { return (present_[index / 64] >> (index % 64) & 1) != 0; }
  /// One bit per page.
  const std::vector<std::uint64_t>& present() const noexcept { return present_; }
  std::uint64_t present_pages() const noexcept;
  /// The bytes of page `index`, which is present: touching another one would give it memory.
  const std::byte* page(std::uint64_t index) const noexcept { return view_.at(index * page_size); }
  /// Memory with these contents that shares every page until it is written. Throws ResourceExhausted.
  std::shared_ptr<mem::HostMapping> copy_on_write() const {
    return mem::HostMapping::copy_on_write(fd_.get(), 0, pages_ * page_size);
  }

 private:
  struct Token {};

 public:
  /// Only the builder can make the argument.
  explicit MemoryImage(Token) noexcept {}

 private:
  std::uint64_t pages_ = 0;
  std::vector<std::uint64_t> present_;
  mem::UniqueFd fd_;
  mem::MappedPages view_;
};

/// Makes a MemoryImage.
class MemoryImage::Builder {
 public:
  /// All zeros. Throws ResourceExhausted, PlatformError.
  explicit Builder(std::uint64_t pages);

  /// Pages [first, first + count), whatever of them is not zeros; every page once. Throws PlatformError,
  /// ResourceExhausted.
  void write(std::uint64_t first, std::uint64_t count, const std::byte* from);
  /// The image; the builder is spent.
  std::shared_ptr<const MemoryImage> finish();

 private:
  void store(std::uint64_t first, std::uint64_t count, const std::byte* from);

  std::shared_ptr<MemoryImage> image_;
};

}  // namespace vm::accel
