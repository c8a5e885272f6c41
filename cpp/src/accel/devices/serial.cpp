#include "vm/accel/devices/serial.hpp"

#include <algorithm>
#include <utility>

namespace vm::accel {
namespace {

// PC16550D data sheet, §8.0 "Registers".
enum Register : unsigned { data = 0, ier = 1, iir_fcr = 2, lcr = 3, mcr = 4, lsr = 5, msr = 6, scr = 7 };

constexpr std::uint8_t ier_received = 0x01, ier_emptied = 0x02, ier_mask = 0x0F;
constexpr std::uint8_t iir_none = 0x01, iir_emptied = 0x02, iir_received = 0x04, iir_fifos = 0xC0;
constexpr std::uint8_t fcr_enable = 0x01, fcr_clear_receiver = 0x02;
constexpr std::uint8_t lcr_divisor = 0x80;
constexpr std::uint8_t mcr_dtr = 0x01, mcr_rts = 0x02, mcr_out1 = 0x04, mcr_out2 = 0x08, mcr_loop = 0x10;
constexpr std::uint8_t lsr_received = 0x01, lsr_transmitter_empty = 0x60;
constexpr std::uint8_t msr_cts = 0x10, msr_dsr = 0x20, msr_ri = 0x40, msr_dcd = 0x80;

std::uint8_t modem_status(std::uint8_t control) noexcept {
  if ((control & mcr_loop) == 0) return msr_cts | msr_dsr | msr_dcd;  // somebody is there and ready
  unsigned status = 0;
  if ((control & mcr_rts) != 0) status |= msr_cts;
  if ((control & mcr_dtr) != 0) status |= msr_dsr;
  if ((control & mcr_out1) != 0) status |= msr_ri;
  if ((control & mcr_out2) != 0) status |= msr_dcd;
  return static_cast<std::uint8_t>(status);
}

}  // namespace

Serial::Serial(std::shared_ptr<ByteSink> sink, LineLevel line) : sink_(std::move(sink)), line_(std::move(line)) {}

std::uint64_t Serial::read(std::uint64_t offset, unsigned width) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::uint64_t value = 0;
  for (unsigned i = 0; i < width; ++i)
    value |= std::uint64_t{read_register(static_cast<unsigned>(offset + i) % ports)} << (8 * i);
  update_line();
  return value;
}

void Serial::write(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (unsigned i = 0; i < width; ++i)
    write_register(static_cast<unsigned>(offset + i) % ports, static_cast<std::uint8_t>(value >> (8 * i)));
  update_line();
}

void Serial::feed(const std::byte* data, std::size_t size) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (std::size_t i = 0; i < size; ++i) received_.push_back(std::to_integer<std::uint8_t>(data[i]));
  update_line();
}

std::size_t Serial::waiting() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return received_.size();
}

std::uint8_t Serial::pending_cause() const noexcept {
  if ((interrupt_enable_ & ier_received) != 0 && !received_.empty()) return iir_received;
  if ((interrupt_enable_ & ier_emptied) != 0 && transmitter_emptied_) return iir_emptied;
  return iir_none;
}

void Serial::update_line() {
  const bool high = pending_cause() != iir_none && (modem_control_ & mcr_out2) != 0;
  if (high == high_) return;
  high_ = high;
  if (line_) line_(high);
}

std::uint8_t Serial::read_register(unsigned index) {
  const bool divisor = (line_control_ & lcr_divisor) != 0;
  switch (index) {
    case Register::data: {
      if (divisor) return static_cast<std::uint8_t>(divisor_);
      if (received_.empty()) return 0;
      const std::uint8_t value = received_.front();
      received_.pop_front();
      return value;
    }
    case ier: return divisor ? static_cast<std::uint8_t>(divisor_ >> 8) : interrupt_enable_;
    case iir_fcr: {
      const std::uint8_t cause = pending_cause();
      if (cause == iir_emptied) transmitter_emptied_ = false;  // reading the cause acknowledges this one
      return static_cast<std::uint8_t>(cause | ((fifo_control_ & fcr_enable) != 0 ? iir_fifos : 0));
    }
    case lcr: return line_control_;
    case mcr: return modem_control_;
    case lsr: return static_cast<std::uint8_t>(lsr_transmitter_empty | (received_.empty() ? 0 : lsr_received));
    case msr: return modem_status(modem_control_);
    default: return scratch_;
  }
}

void Serial::write_register(unsigned index, std::uint8_t value) {
  const bool divisor = (line_control_ & lcr_divisor) != 0;
  switch (index) {
    case Register::data:
      if (divisor) {
        divisor_ = static_cast<std::uint16_t>((divisor_ & 0xFF00) | value);
      } else {
        send(value);
      }
      break;
    case ier:
      if (divisor) {
        divisor_ = static_cast<std::uint16_t>((divisor_ & 0x00FF) | (value << 8));
        break;
      }
      // Enabling the cause while the register is empty makes it pending.
      if ((value & ~interrupt_enable_ & ier_emptied) != 0) transmitter_emptied_ = true;
      interrupt_enable_ = value & ier_mask;
      break;
    case iir_fcr:
      fifo_control_ = value;
      if ((value & fcr_clear_receiver) != 0) received_.clear();
      break;
    case lcr: line_control_ = value; break;
    case mcr: modem_control_ = value & 0x1F; break;
    case lsr:
    case msr: break;  // read-only
    default: scratch_ = value; break;
  }
}

void Serial::send(std::uint8_t value) {
  transmitter_emptied_ = true;
  if ((modem_control_ & mcr_loop) != 0) {
    constexpr std::size_t fifo_size = 16;  // the guest alone decides how much it loops back
    if (received_.size() < fifo_size) received_.push_back(value);
    return;
  }
  const auto byte = static_cast<std::byte>(value);
  if (sink_) sink_->write(&byte, 1);
}

}  // namespace vm::accel
