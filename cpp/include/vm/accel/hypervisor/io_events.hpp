#pragma once
/// \file
/// Guest accesses that end in the hypervisor instead of an exit: writes that only ring a bell, and writes that can
/// wait until somebody collects them.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vm/accel/hypervisor/event_fd.hpp"

namespace vm::accel {

enum class IoSpace : std::uint8_t { memory, port };

/// "memory", "port".
const char* io_space_name(IoSpace space) noexcept;

/// The writes that ring a bell.
struct IoEvent {
  IoSpace space = IoSpace::memory;
  std::uint64_t address = 0;
  std::uint8_t size = 0;               ///< 1, 2, 4 or 8 bytes; 0: any size
  std::optional<std::uint64_t> match;  ///< only this value
};

inline bool operator==(const IoEvent& a, const IoEvent& b) noexcept {
  return a.space == b.space && a.address == b.address && a.size == b.size && a.match == b.match;
}

/// Throws InvalidConfig when no write could be meant: another size, a range that ends outside the space, a value that
/// does not fit the size or has none.
void check_io_event(const IoEvent& event);

/// "a write of 2 bytes to port 0x510".
std::string io_event_text(const IoEvent& event);

/// Addresses whose writes wait.
struct CoalescedZone {
  IoSpace space = IoSpace::memory;
  std::uint64_t address = 0;
  std::uint32_t size = 0;  ///< bytes
};

inline bool operator==(const CoalescedZone& a, const CoalescedZone& b) noexcept {
  return a.space == b.space && a.address == b.address && a.size == b.size;
}

/// Throws InvalidConfig for an empty range, one of 2 GiB or more, and one that ends outside the space.
void check_zone(const CoalescedZone& zone);

/// A write that waited.
struct CoalescedWrite {
  IoSpace space = IoSpace::memory;
  std::uint64_t address = 0;
  std::uint8_t size = 0;
  std::array<std::byte, 8> data{};  ///< the first `size` bytes
};

/// Implemented by backends. Any thread may call anything at once. Every call throws PlatformError when the hypervisor
/// refuses, NotSupported naming the capability that is missing; then nothing has changed.
class IoEvents {
 public:
  virtual ~IoEvents() = default;

  /// From now on such a write adds 1 to `event` and the guest goes on; there is no exit. The event lives until it is
  /// detached or the VM is gone. Throws InvalidConfig as check_io_event, and when another event is there.
  virtual void attach(const IoEvent& what, std::shared_ptr<EventFd> event) = 0;
  /// Throws InvalidConfig when nothing is attached to exactly this.
  virtual void detach(const IoEvent& what) = 0;
  virtual std::vector<IoEvent> attached() const = 0;

  /// From now on writes there wait in a ring of the VM, and exit only when it is full. Throws InvalidConfig as
  /// check_zone, and when the zone overlaps another.
  virtual void coalesce(const CoalescedZone& zone) = 0;
  /// Ends that; what waits still waits. Throws InvalidConfig when there is no such zone.
  virtual void stop_coalescing(const CoalescedZone& zone) = 0;
  virtual std::vector<CoalescedZone> zones() const = 0;
  /// Takes the writes that wait, in the order in which the guest made them. What guest and devices agree on needs
  /// that before every other exit is handled.
  virtual std::vector<CoalescedWrite> collect() = 0;
};

}  // namespace vm::accel
