#pragma once
/// \file
/// The battery-backed memory of a PC with its clock: Motorola MC146818 at the ports 0x70 and 0x71.

#include <array>
#include <cstdint>
#include <ctime>
#include <functional>
#include <mutex>

#include "vm/accel/devices/bus.hpp"

namespace vm::accel {

/// The clock shows UTC, in BCD and 24 hours, and cannot be set; alarms and periodic interrupts are not there. Bytes
/// from 0x0E on are memory. The places where firmware notes the memory size are filled as QEMU's pc machine does. Any
/// thread.
class Cmos final : public Device {
 public:
  static constexpr std::uint16_t port = 0x70;
  static constexpr std::uint64_t ports = 2;

  using Now = std::function<std::time_t()>;

  /// `low_bytes`: memory below 4 GiB, `high_bytes`: above. `now` empty: the host's clock.
  Cmos(std::uint64_t low_bytes, std::uint64_t high_bytes, unsigned processors, Now now = {});

  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  std::uint8_t read_byte(unsigned index) const;

  const Now now_;
  std::mutex mutex_;
  std::array<std::uint8_t, 128> bytes_{};  // guarded by mutex_
  unsigned index_ = 0;                     // guarded by mutex_
};

}  // namespace vm::accel
