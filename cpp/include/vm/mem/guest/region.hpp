#pragma once
/// \file
/// The map from guest-physical addresses to host memory. A `RegionTable` is immutable: changing a `GuestMemory` swaps
/// in a new one, so a reader that holds a table keeps every byte it can reach alive, without a lock.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace vm::mem {

/// Host memory with its release; the last owner unmaps it.
class HostMapping;

/// One run of guest-physical addresses backed by one run of host memory.
struct Region {
  std::uint64_t base = 0;     ///< first guest-physical address
  std::uint64_t size = 0;     ///< bytes; never 0, and base + size - 1 never wraps
  std::byte* host = nullptr;  ///< host address of `base`; no particular alignment (dumps have headers)
  bool writable = false;
  std::string name;  ///< "anonymous", "memfd", a file's path: for people
  std::shared_ptr<HostMapping> mapping;

  std::uint64_t last() const noexcept { return base + (size - 1); }
};

/// Regions sorted by base, never overlapping.
class RegionTable {
 public:
  RegionTable() = default;
  /// Sorts `regions`. Throws InvalidConfig on an empty, wrapping or overlapping region.
  explicit RegionTable(std::vector<Region> regions);

  const std::vector<Region>& regions() const noexcept { return regions_; }
  /// True when the first touch of a byte may have to wait for a page source; see LazyMemory.
  bool lazy() const noexcept { return lazy_; }

  /// The region that holds `paddr`, or nullptr in a hole. Any number of threads.
  const Region* find(std::uint64_t paddr) const noexcept {
    std::size_t count = bases_.size();
    if (count == 0) return nullptr;
    std::size_t low = 0;
    while (count > 1) {
      const std::size_t half = count / 2;
      if (bases_[low + half] <= paddr) low += half;
      count -= half;
    }
    const Region& r = regions_[low];
    // Below r.base the difference wraps to at least 2^64 - base, and no region at `base` is that large.
    return paddr - r.base < r.size ? &r : nullptr;
  }

  /// Host address of [paddr, paddr + size) when one region holds all of it, else nullptr. This is the only way from a
  /// guest-supplied address to a host pointer: the check and the conversion cannot be separated.
  const std::byte* at(std::uint64_t paddr, std::uint64_t size) const noexcept {
    const Region* r = find(paddr);
    if (r == nullptr) return nullptr;
    const std::uint64_t offset = paddr - r->base;
    return size <= r->size - offset ? r->host + offset : nullptr;
  }
  /// As `at`, and nullptr also when the region is read-only.
  std::byte* writable_at(std::uint64_t paddr, std::uint64_t size) const noexcept {
    const Region* r = find(paddr);
    if (r == nullptr || !r->writable) return nullptr;
    const std::uint64_t offset = paddr - r->base;
    return size <= r->size - offset ? r->host + offset : nullptr;
  }

  /// Throws OutOfRange naming the hole unless every byte of [paddr, paddr + size) lies in a region. `size` 0 is fine
  /// anywhere. `what` begins the message: "read", "write".
  void require(std::uint64_t paddr, std::uint64_t size, const char* what) const;
  /// As `require`, and AccessViolation when a region of the range is read-only.
  void require_writable(std::uint64_t paddr, std::uint64_t size, const char* what) const;

  /// Has the pages of a range that lies wholly in regions filled, so that what a page source throws is thrown here.
  void require_present(std::uint64_t paddr, std::uint64_t size) const;
  /// For a thread about to touch bytes that may have to wait; see PageSource::before_wait. Destroy the result after.
  std::vector<std::shared_ptr<void>> before_wait() const;

 private:
  std::vector<Region> regions_;
  std::vector<std::uint64_t> bases_;  // of regions_, close together: the search touches fewer cache lines
  bool lazy_ = false;
};

}  // namespace vm::mem
