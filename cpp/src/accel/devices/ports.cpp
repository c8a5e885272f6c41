#include "vm/accel/devices/ports.hpp"

#include <string_view>

namespace vm::accel {
namespace {

constexpr std::uint64_t all_ones = ~std::uint64_t{0};

}  // namespace

std::uint64_t DebugExit::read(std::uint64_t /*offset*/, unsigned /*width*/) { return 0; }

void DebugExit::write(std::uint64_t /*offset*/, unsigned /*width*/, std::uint64_t value) {
  stop_->request({StopKind::exit, (static_cast<std::uint32_t>(value) << 1) | 1, "debug-exit"});
}

std::uint64_t PowerOffPort::read(std::uint64_t /*offset*/, unsigned /*width*/) { return all_ones; }

void PowerOffPort::write(std::uint64_t /*offset*/, unsigned /*width*/, std::uint64_t value) {
  constexpr std::string_view word = "Shutdown";
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto letter = static_cast<char>(value);
  matched_ = letter == word[matched_] ? matched_ + 1 : (letter == word[0] ? 1 : 0);
  if (matched_ < word.size()) return;
  matched_ = 0;
  stop_->request({StopKind::power_off, 0, "power-off port"});
}

std::uint64_t KeyboardController::read(std::uint64_t /*offset*/, unsigned /*width*/) {
  return 0;  // status: nothing to read, ready for a command
}

void KeyboardController::write(std::uint64_t offset, unsigned /*width*/, std::uint64_t value) {
  constexpr std::uint64_t command = 4;
  constexpr std::uint8_t pulse_reset = 0xFE;
  if (offset == command && static_cast<std::uint8_t>(value) == pulse_reset)
    stop_->request({StopKind::reset, 0, "keyboard controller"});
}

namespace {

constexpr std::uint64_t pci_address = 0, reset_register = 1;

}  // namespace

std::uint64_t EmptyPci::read(std::uint64_t offset, unsigned width) {
  if (offset == pci_address && width == 4) return address_.load(std::memory_order_relaxed);
  if (offset == reset_register && width == 1) return reset_control_.load(std::memory_order_relaxed);
  return all_ones;  // what a function that is not there answers
}

void EmptyPci::write(std::uint64_t offset, unsigned width, std::uint64_t value) {
  if (offset == pci_address && width == 4) {
    address_.store(static_cast<std::uint32_t>(value), std::memory_order_relaxed);
  } else if (offset == reset_register && width == 1) {
    constexpr std::uint8_t reset_processor = 0x04, full_reset = 0x0A;
    reset_control_.store(static_cast<std::uint8_t>(value) & full_reset, std::memory_order_relaxed);
    if ((value & reset_processor) != 0) stop_->request({StopKind::reset, 0, "reset control register"});
  }
}

std::uint64_t IgnoredPort::read(std::uint64_t /*offset*/, unsigned /*width*/) { return 0; }

void IgnoredPort::write(std::uint64_t /*offset*/, unsigned /*width*/, std::uint64_t /*value*/) {}

}  // namespace vm::accel
