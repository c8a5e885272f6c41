#pragma once
/// \file
/// Guest-physical ranges that are devices instead of memory.

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vm/mem/guest/memory.hpp"

namespace vm::mem {

/// What answers in an MMIO range. Called on the thread that makes the access, by several at once when they make several
/// accesses; no lock of this library is held. What it throws reaches the one who made the access.
class MmioHandler {
 public:
  virtual ~MmioHandler() = default;
  /// `offset` from the start of the range; `width` is 1, 2, 4 or 8 bytes. The result's higher bytes are ignored.
  virtual std::uint64_t read(std::uint64_t offset, unsigned width) = 0;
  virtual void write(std::uint64_t offset, unsigned width, std::uint64_t value) = 0;

 protected:
  MmioHandler() = default;
  MmioHandler(const MmioHandler&) = default;
  MmioHandler& operator=(const MmioHandler&) = default;
};

/// Access widths as a set: the sum of those allowed.
inline constexpr unsigned all_mmio_widths = 1 | 2 | 4 | 8;

struct MmioRange {
  std::uint64_t base = 0;
  std::uint64_t size = 0;
  unsigned widths = all_mmio_widths;  ///< the device answers accesses of these widths, each aligned to its width
  std::string name;                   ///< for people
  std::shared_ptr<MmioHandler> handler;

  std::uint64_t last() const noexcept { return base + (size - 1); }
};

/// The MMIO ranges of one guest. Any number of threads may call anything at once; an access that has begun ends with
/// the handler it began with, also when its range is removed meanwhile.
class MmioManager {
 public:
  /// `memory` is asked for overlaps when a range is added.
  explicit MmioManager(std::shared_ptr<GuestMemory> memory);

  /// Throws InvalidConfig when the range is empty, wraps, has no handler or no width, or overlaps guest memory or
  /// another range; then nothing has changed. Memory that is added later hides what it covers.
  void add(MmioRange range);
  /// Removes the range that begins at `base`; false when there is none.
  bool remove(std::uint64_t base);
  /// In ascending order.
  std::vector<MmioRange> ranges() const;
  bool empty() const noexcept;

  /// Whether some range holds `paddr`.
  bool contains(std::uint64_t paddr) const;
  /// Throws what `read_bytes` would throw.
  void require(std::uint64_t paddr, std::uint64_t size, const char* what) const;
  /// The last address of the range that holds `paddr`. Throws OutOfRange.
  std::uint64_t last_of(std::uint64_t paddr) const;
  /// One access of `width` 1, 2, 4 or 8. Throws OutOfRange when no range holds all of it, AccessViolation when the
  /// range does not answer this width or alignment.
  std::uint64_t read(std::uint64_t paddr, unsigned width) const;
  void write(std::uint64_t paddr, unsigned width, std::uint64_t value) const;

  /// Copies bytes by the widest aligned accesses that the range answers, in ascending order: a device with side effects
  /// sees each of them. Checked before the first: OutOfRange, AccessViolation. [paddr, paddr + size) must lie in one
  /// range.
  void read_bytes(std::uint64_t paddr, void* destination, std::uint64_t size) const;
  void write_bytes(std::uint64_t paddr, const void* source, std::uint64_t size) const;

 private:
  using Ranges = std::vector<MmioRange>;

  std::shared_ptr<const Ranges> snapshot() const;
  /// The range that holds all of the access, kept alive.
  MmioRange find(std::uint64_t paddr, std::uint64_t size, const char* what) const;

  std::shared_ptr<GuestMemory> memory_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Ranges> ranges_;  // guarded by mutex_; sorted by base; replaced as a whole
};

}  // namespace vm::mem
