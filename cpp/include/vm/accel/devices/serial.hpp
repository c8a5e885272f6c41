#pragma once
/// \file
/// The serial port of a PC: a 16550A (National Semiconductor PC16550D data sheet), without the timing of a line.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "vm/accel/devices/bus.hpp"
#include "vm/mem/pages/unique_fd.hpp"

namespace vm::accel {

/// Where a device's output goes.
class ByteSink {
 public:
  virtual ~ByteSink() = default;
  virtual void write(const std::byte* data, std::size_t size) = 0;
};

/// Writes to a file descriptor, each call at once. Throws PlatformError.
class DescriptorSink final : public ByteSink {
 public:
  /// Duplicates `fd`. Throws PlatformError.
  explicit DescriptorSink(int fd);
  void write(const std::byte* data, std::size_t size) override;

 private:
  mem::UniqueFd fd_;
};

/// Keeps the last bytes in memory: a guest cannot make it larger than `capacity`. Any thread.
class BufferSink final : public ByteSink {
 public:
  explicit BufferSink(std::size_t capacity = std::size_t{1} << 20) : capacity_(capacity) {}
  void write(const std::byte* data, std::size_t size) override;
  /// What is there now.
  std::string text() const;
  /// Bytes that were written and are not there any more.
  std::uint64_t dropped() const;

 private:
  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::string bytes_;          // guarded by mutex_
  std::uint64_t dropped_ = 0;  // guarded by mutex_
};

/// The level of an interrupt line that a device drives.
using LineLevel = std::function<void(bool high)>;

/// Eight ports. What the guest sends reaches the sink at once; what `feed` got is ready at once. The interrupt line is
/// high while an enabled cause is pending and OUT2 is set, which gates it on a PC. Any thread; the sink and the line
/// are called with the device's lock held, so they must not call it back.
class Serial final : public Device {
 public:
  static constexpr std::uint16_t com1 = 0x3F8;  ///< COM1's first port
  static constexpr unsigned com1_irq = 4;
  static constexpr std::uint64_t ports = 8;

  /// `sink` null: output is dropped. `line` empty: the guest has to poll.
  explicit Serial(std::shared_ptr<ByteSink> sink, LineLevel line = {});

  std::uint64_t read(std::uint64_t offset, unsigned width) override;
  void write(std::uint64_t offset, unsigned width, std::uint64_t value) override;

  /// Bytes for the guest to receive, after those that it has not read yet.
  void feed(const std::byte* data, std::size_t size);
  /// Bytes that the guest has not read yet.
  std::size_t waiting() const;

 private:
  std::uint8_t read_register(unsigned index);
  void write_register(unsigned index, std::uint8_t value);
  std::uint8_t pending_cause() const noexcept;
  void send(std::uint8_t value);
  void update_line();

  const std::shared_ptr<ByteSink> sink_;
  const LineLevel line_;
  mutable std::mutex mutex_;  // guards everything below
  std::deque<std::uint8_t> received_;
  std::uint8_t interrupt_enable_ = 0;
  std::uint8_t fifo_control_ = 0;
  std::uint8_t line_control_ = 0;
  std::uint8_t modem_control_ = 0;
  std::uint8_t scratch_ = 0;
  std::uint16_t divisor_ = 1;
  bool transmitter_emptied_ = false;  // the cause "holding register empty" is pending
  bool high_ = false;
};

}  // namespace vm::accel
