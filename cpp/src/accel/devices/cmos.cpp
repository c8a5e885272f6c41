#include "vm/accel/devices/cmos.hpp"

#include <algorithm>
#include <utility>

namespace vm::accel {
namespace {

// MC146818 data sheet, "Memory map"; the century and the memory sizes are where PCs have them.
enum Register : unsigned {
  seconds = 0x00,
  minutes = 0x02,
  hours = 0x04,
  day_of_week = 0x06,
  day_of_month = 0x07,
  month = 0x08,
  year = 0x09,
  status_a = 0x0A,
  status_b = 0x0B,
  status_c = 0x0C,
  status_d = 0x0D,
  first_memory = 0x0E,
  base_memory = 0x15,
  extended_memory = 0x17,
  extended_memory_again = 0x30,
  century = 0x32,
  memory_above_16m = 0x34,
  memory_above_4g = 0x5B,
  last_processor = 0x5F,
};

std::uint8_t bcd(int value) noexcept { return static_cast<std::uint8_t>((value / 10 % 10) << 4 | value % 10); }

template <class Bytes>
void put(Bytes& bytes, unsigned at, std::uint64_t value, unsigned size) noexcept {
  for (unsigned i = 0; i < size; ++i) bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

}  // namespace

Cmos::Cmos(std::uint64_t low_bytes, std::uint64_t high_bytes, unsigned processors, Now now) : now_(std::move(now)) {
  constexpr std::uint64_t kib = 1 << 10, mib = 1 << 20, most = 0xFFFF;
  const std::uint64_t extended = low_bytes > mib ? std::min((low_bytes - mib) / kib, most) : 0;
  const std::uint64_t above = low_bytes > 16 * mib ? std::min((low_bytes - 16 * mib) / (64 * kib), most) : 0;
  put(bytes_, base_memory, 640, 2);
  put(bytes_, extended_memory, extended, 2);
  put(bytes_, extended_memory_again, extended, 2);
  put(bytes_, memory_above_16m, above, 2);
  put(bytes_, memory_above_4g, std::min<std::uint64_t>(high_bytes / (64 * kib), 0xFFFFFF), 3);
  bytes_[last_processor] = static_cast<std::uint8_t>(std::max(processors, 1U) - 1);
}

std::uint8_t Cmos::read_byte(unsigned index) const {
  if (index >= first_memory && index != century) return bytes_[index];
  const std::time_t time = now_ ? now_() : std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&time, &utc);
  switch (index) {
    case seconds: return bcd(utc.tm_sec);
    case minutes: return bcd(utc.tm_min);
    case hours: return bcd(utc.tm_hour);
    case day_of_week: return static_cast<std::uint8_t>(utc.tm_wday + 1);
    case day_of_month: return bcd(utc.tm_mday);
    case month: return bcd(utc.tm_mon + 1);
    case year: return bcd(utc.tm_year % 100);
    case century: return bcd((utc.tm_year + 1900) / 100);
    case status_a: return 0x26;  // 32,768 Hz, no update in progress
    case status_b: return 0x02;  // 24 hours, BCD
    case status_d: return 0x80;  // the battery is good
    default: return 0;           // alarms, status C
  }
}

std::uint64_t Cmos::read(std::uint64_t offset, unsigned /*width*/) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return offset == 1 ? read_byte(index_) : 0xFF;  // the index cannot be read
}

void Cmos::write(std::uint64_t offset, unsigned width, std::uint64_t value) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (offset == 0) {
    index_ = static_cast<unsigned>(value) & 0x7F;  // bit 7 masks NMIs
    if (width < 2) return;
    value >>= 8;
  }
  if (index_ >= first_memory && index_ != century) bytes_[index_] = static_cast<std::uint8_t>(value);
}

}  // namespace vm::accel
