#pragma once
/// \file
/// The devices of a machine by the ports and the guest-physical addresses that they answer.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vm/mem/guest/mmio.hpp"

namespace vm::accel {

/// A device: `read(offset, width)` and `write(offset, width, value)`, `offset` from the start of its range. It is
/// called on the threads of the vCPUs, by several at once. What it throws ends the run loop.
using Device = mem::MmioHandler;

enum class BusSpace : std::uint8_t {
  port,    ///< x86 I/O ports, 0 to 0xFFFF
  memory,  ///< guest-physical addresses that no slot covers
};

struct BusRange {
  BusSpace space = BusSpace::port;
  std::uint64_t base = 0;
  std::uint64_t size = 0;
  std::string name;  ///< for people
  std::shared_ptr<Device> device;

  std::uint64_t last() const noexcept { return base + (size - 1); }
};

/// What went over the bus, counted where it happened.
struct BusTraffic {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
};

struct BusUsage {
  BusRange range;
  BusTraffic traffic;
};

/// Ranges and their devices. Any number of threads may call anything at once; an access that has begun ends with the
/// device it began with, also when its range is removed meanwhile.
///
/// An access of 1, 2, 4 or 8 bytes that lies in one range reaches the device as it is. Any other is taken apart into
/// bytes, as a bus of 8 bits would see it. A byte that no range holds reads as 0xFF (an open bus is pulled up), a write
/// to it is lost, and both are counted.
class DeviceBus {
 public:
  DeviceBus();
  DeviceBus(const DeviceBus&) = delete;
  DeviceBus& operator=(const DeviceBus&) = delete;
  ~DeviceBus();

  /// Throws InvalidConfig when the range is empty, wraps, leaves the ports, has no device, or overlaps another; then
  /// nothing has changed.
  void add(BusRange range);
  void add_ports(std::uint16_t first, std::uint64_t count, std::shared_ptr<Device> device, std::string name = {});
  void add_memory(std::uint64_t base, std::uint64_t size, std::shared_ptr<Device> device, std::string name = {});
  /// Removes the range that begins at `base`; false when there is none.
  bool remove(BusSpace space, std::uint64_t base);

  /// In ascending order, ports first. The counts of one range are those since it was added.
  std::vector<BusUsage> usage() const;
  /// Accesses of which no byte had a device.
  BusTraffic unclaimed(BusSpace space) const;

  class Cursor;

 private:
  struct Counters;
  struct Entry;
  struct Table;

  std::shared_ptr<const Table> table() const;
  void replace(std::shared_ptr<const Table> table);

  mutable std::mutex mutex_;
  std::shared_ptr<const Table> table_;  // guarded by mutex_; replaced as a whole
  std::atomic<std::uint64_t> generation_{0};
  std::array<std::unique_ptr<Counters>, 2> unclaimed_;
};

/// How one thread reaches the bus. It keeps the table that it saw last, so that an access takes no lock; a change of
/// the bus is seen at the next access.
class DeviceBus::Cursor {
 public:
  explicit Cursor(const DeviceBus& bus);
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;
  ~Cursor();

  /// Reads `width` bytes (1 to 8) at `address`. False: no byte had a device. Throws what the device throws.
  bool read(BusSpace space, std::uint64_t address, unsigned width, std::byte* to);
  bool write(BusSpace space, std::uint64_t address, unsigned width, const std::byte* from);
  /// Whether some device answers a byte of [address, address + width).
  bool claims(BusSpace space, std::uint64_t address, unsigned width);

 private:
  const Entry* find(BusSpace space, std::uint64_t address);
  /// The entry that holds all of the access and takes it as it is, or nullptr.
  const Entry* whole(BusSpace space, std::uint64_t address, unsigned width);

  const DeviceBus& bus_;
  std::uint64_t generation_;
  std::shared_ptr<const Table> table_;
  std::array<const Entry*, 2> last_{};
};

}  // namespace vm::accel
