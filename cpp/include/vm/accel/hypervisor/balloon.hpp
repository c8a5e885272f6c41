#pragma once
/// \file
/// `Balloon`: memory of a guest given back to the host while the machine runs.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace vm::accel {

class Vm;

struct BalloonStats {
  std::uint64_t page_size = 0;
  std::uint64_t inflated_pages = 0;  ///< in the balloon now
  std::uint64_t inflated_bytes = 0;
  std::uint64_t inflations = 0;      ///< pages put in since the VM was made, as often as they were
  std::uint64_t deflations = 0;      ///< and taken out
  std::uint64_t memory_bytes = 0;    ///< of all slots
  std::uint64_t resident_bytes = 0;  ///< of them in the host's memory now, measured (GuestMemory::resident)
};

/// The host's side of a balloon: whoever knows which pages the guest does not use puts them in, and the host has their
/// memory. The guest's driver that would choose them (virtio-balloon) is not here; nothing keeps a guest from touching
/// a page in the balloon: it reads zeros and costs memory again, as `resident_bytes` shows.
///
/// Memory that is mapped twice is given back under both addresses. A device that reaches guest memory by DMA keeps the
/// pages that it had: no balloon over memory that a DmaMap maps.
///
/// Any number of threads may call anything at once, also while vCPUs run. Every method throws ClosedError when the VM
/// is closed.
class Balloon {
 public:
  /// For Vm.
  Balloon(std::weak_ptr<Vm> vm, std::uint64_t page_size);
  Balloon(const Balloon&) = delete;
  Balloon& operator=(const Balloon&) = delete;

  /// Puts [paddr, paddr + size) in: its pages go back to the host and read as zeros. Pages that are in already are
  /// given back once more. Throws what GuestMemory::discard throws (OutOfRange, AccessViolation for read-only memory,
  /// NotSupported for memory from files, InvalidConfig for parts of pages); then nothing changed.
  void inflate(std::uint64_t paddr, std::uint64_t size);
  /// The same for pages by number (address / page_size), as a guest's driver names them, in any order. All are checked
  /// before the first is given back.
  void inflate_pages(std::vector<std::uint64_t> frames);
  /// Takes out what is in of [paddr, paddr + size). With `populate`, the host puts pages under all of it now; else they
  /// come as the guest touches them. Only this takes pages out: a slot that is unmapped leaves its own in. Throws
  /// OutOfRange, InvalidConfig for parts of pages, and what GuestMemory::populate throws; then nothing is taken out.
  void deflate(std::uint64_t paddr, std::uint64_t size, bool populate = false);
  void deflate_pages(std::vector<std::uint64_t> frames, bool populate = false);

  /// What is in, as (address, bytes), ascending and as few as possible.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges() const;
  /// Asks the kernel about every page of the machine.
  BalloonStats stats() const;

 private:
  using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;

  std::shared_ptr<Vm> vm() const;
  Ranges runs_of(std::vector<std::uint64_t> frames) const;
  void check_pages(std::uint64_t paddr, std::uint64_t size, const char* what) const;
  void inflate_ranges(const Ranges& ranges);
  void deflate_ranges(const Ranges& ranges, bool populate);
  /// Bytes of [first, end) that were in.
  std::uint64_t take_out(std::uint64_t first, std::uint64_t end);

  const std::weak_ptr<Vm> vm_;
  const std::uint64_t page_size_;
  mutable std::mutex mutex_;
  std::map<std::uint64_t, std::uint64_t> inside_;  // guarded by mutex_, as all below; first byte -> one past the last
  std::uint64_t inside_bytes_ = 0;
  std::uint64_t inflations_ = 0;
  std::uint64_t deflations_ = 0;
};

}  // namespace vm::accel
