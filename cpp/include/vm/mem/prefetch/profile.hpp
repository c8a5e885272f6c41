#pragma once
/// \file
/// Which pages to fetch before anybody asks.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "vm/mem/prefetch/prefetcher.hpp"

namespace vm::mem::prefetch {

/// Pages with how often each was seen: recorded while a guest runs, saved, and walked into the TLB at the next start.
/// One thread at a time. Takes 48 bytes a page.
class Profile {
 public:
  /// More distinct pages than any TLB holds, and few enough for memory.
  static constexpr std::size_t most_pages = std::size_t{1} << 22;

  /// Pages of 2^page_shift bytes, 12 to 30. Throws InvalidConfig.
  explicit Profile(std::uint32_t page_shift = 12);

  /// The pages that overlap [vaddr, vaddr + size), each seen once. Throws InvalidConfig when the range wraps or has
  /// more than most_pages pages.
  static Profile from_range(std::uint64_t vaddr, std::uint64_t size, std::uint32_t page_shift = 12);
  /// Reads what `save` wrote. Throws InvalidConfig saying what is wrong with the file, PlatformError.
  static Profile load(const std::string& path);

  std::uint32_t page_shift() const noexcept { return page_shift_; }
  /// Distinct pages.
  std::size_t size() const noexcept { return counts_.size(); }
  /// How often `page` was seen.
  std::uint64_t count(std::uint64_t page) const;
  /// Sightings that were not recorded because there were most_pages other pages, or because of their page numbers.
  std::uint64_t dropped() const noexcept { return dropped_; }

  /// Counts `times` sightings of `page`, up to 2^64 - 1 of them.
  void record(std::uint64_t page, std::uint64_t times = 1);
  /// The `limit` pages seen most often, most often first; of equals the lower page number first.
  std::vector<std::uint64_t> pages(std::size_t limit = most_pages) const;
  /// Replaces the file. Throws PlatformError.
  void save(const std::string& path) const;

 private:
  std::uint32_t page_shift_;
  std::uint64_t dropped_ = 0;
  // Ordered, because a file could be made of pages that a hash table would put into one bucket.
  std::map<std::uint64_t, std::uint64_t> counts_;
};

}  // namespace vm::mem::prefetch
