#pragma once
/// \file
/// Small devices of a PC and of test machines that consist of a few ports. Any thread.

#include <cstdint>
#include <memory>
#include <mutex>

#include "vm/accel/devices/bus.hpp"
#include "vm/accel/devices/stop_request.hpp"

namespace vm::accel {

/// Ends the machine with status value * 2 + 1, as QEMU's isa-debug-exit does: never 0, so that a test that says
/// "passed" by writing 0 is told from a machine that just went away.
class DebugExit final : public Device {
 public:
  static constexpr std::uint16_t port = 0xF4;
  static constexpr std::uint64_t ports = 4;

  explicit DebugExit(std::shared_ptr<StopRequest> stop) : stop_(std::move(stop)) {}
  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  const std::shared_ptr<StopRequest> stop_;
};

/// Bochs' way to switch off: the letters "Shutdown", one after the other.
class PowerOffPort final : public Device {
 public:
  static constexpr std::uint16_t port = 0x8900;

  explicit PowerOffPort(std::shared_ptr<StopRequest> stop) : stop_(std::move(stop)) {}
  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  const std::shared_ptr<StopRequest> stop_;
  std::mutex mutex_;
  std::size_t matched_ = 0;  // guarded by mutex_
};

/// Of the keyboard controller 8042: no keyboard, and the command 0xFE, which pulses the processor's reset line. Ports
/// 0x60 to 0x64.
class KeyboardController final : public Device {
 public:
  static constexpr std::uint16_t port = 0x60;
  static constexpr std::uint64_t ports = 5;

  explicit KeyboardController(std::shared_ptr<StopRequest> stop) : stop_(std::move(stop)) {}
  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  const std::shared_ptr<StopRequest> stop_;
};

/// The ports of a PCI bus without devices (0xCF8 to 0xCFF), and the reset control register 0xCF9 between them (Intel
/// ICH: bit 2 resets the processor). One device, because an access of 4 bytes to 0xCF8 is no access to 0xCF9.
class EmptyPci final : public Device {
 public:
  static constexpr std::uint16_t port = 0xCF8;
  static constexpr std::uint64_t ports = 8;

  explicit EmptyPci(std::shared_ptr<StopRequest> stop) : stop_(std::move(stop)) {}
  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  const std::shared_ptr<StopRequest> stop_;
  std::atomic<std::uint32_t> address_{0};
  std::atomic<std::uint8_t> reset_control_{0};
};

/// Takes every write and reads as 0: the port 0x80 of firmware's progress codes, for one.
class IgnoredPort final : public Device {
 public:
  static constexpr std::uint16_t post = 0x80;

  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;
};

}  // namespace vm::accel
