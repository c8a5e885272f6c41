#pragma once
/// \file
/// What QEMU's pc-testdev gives kvm-unit-tests: a port that echoes, interrupt lines, a page that is taken away and
/// given back, and a device that behaves like memory.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "vm/accel/devices/bus.hpp"
#include "vm/mem/guest/memory.hpp"

namespace vm::accel {

/// Port 0xE0 (4 bytes): what was written last.
class EchoPort final : public Device {
 public:
  static constexpr std::uint16_t port = 0xE0;
  static constexpr std::uint64_t ports = 4;

  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  std::atomic<std::uint32_t> value_{0};
};

/// Port 0xE4 (4 bytes): the guest writes a guest-physical address, and the hypervisor has to look the host's page up
/// anew, as after the host had moved it.
class PageFlushPort final : public Device {
 public:
  static constexpr std::uint16_t port = 0xE4;
  static constexpr std::uint64_t ports = 4;

  explicit PageFlushPort(std::shared_ptr<mem::GuestMemory> memory) : memory_(std::move(memory)) {}
  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  /// Addresses outside memory are ignored. Throws PlatformError.
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  const std::shared_ptr<mem::GuestMemory> memory_;
};

/// Ports 0x2000 + n: interrupt line n becomes high or low.
class IrqLinePorts final : public Device {
 public:
  static constexpr std::uint16_t port = 0x2000;
  static constexpr std::uint64_t ports = 24;

  using SetLine = std::function<void(unsigned line, bool high)>;
  explicit IrqLinePorts(SetLine set) : set_(std::move(set)) {}
  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  const SetLine set_;
};

/// 64 KiB at 0xFF000000 that behave like memory but are a device: what is written is read back.
class MemoryDevice final : public Device {
 public:
  static constexpr std::uint64_t base = 0xFF000000;
  static constexpr std::uint64_t size = 0x10000;

  /// `bytes` of zeros.
  explicit MemoryDevice(std::uint64_t bytes = size);
  /// Throw OutOfRange beyond the end.
  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

 private:
  std::mutex mutex_;
  std::vector<std::byte> bytes_;  // guarded by mutex_
};

}  // namespace vm::accel
