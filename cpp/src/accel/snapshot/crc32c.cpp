#include "accel/snapshot/crc32c.hpp"

#include <array>
#include <cstring>

namespace vm::accel {
namespace {

constexpr std::uint32_t polynomial = 0x82F63B78;  // 0x1EDC6F41 with its bits reversed
constexpr std::size_t step = 8;

using Tables = std::array<std::array<std::uint32_t, 256>, step>;

/// tables[k][b]: what byte b adds to the checksum when k bytes follow it in the step.
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t b = 0; b < 256; ++b) {
    std::uint32_t crc = b;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? polynomial : 0);
    tables[0][b] = crc;
  }
  for (std::size_t k = 1; k < step; ++k) {
    for (std::size_t b = 0; b < 256; ++b) tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 0xFF];
  }
  return tables;
}

constexpr Tables tables = make_tables();

}  // namespace

std::uint32_t crc32c(const void* data, std::size_t size, std::uint32_t before) noexcept {
  const auto* bytes = static_cast<const unsigned char*>(data);
  std::uint32_t crc = ~before;
  for (; size >= step; size -= step, bytes += step) {
    // Byte by byte, so that the order of bytes in memory does not matter; compilers make one load of it.
    std::uint64_t word = 0;
    for (std::size_t i = 0; i < step; ++i) word |= std::uint64_t{bytes[i]} << (8 * i);
    word ^= crc;
    crc = 0;
    for (std::size_t i = 0; i < step; ++i) crc ^= tables[step - 1 - i][(word >> (8 * i)) & 0xFF];
  }
  for (; size != 0; --size, ++bytes) crc = (crc >> 8) ^ tables[0][(crc ^ *bytes) & 0xFF];
  return ~crc;
}

}  // namespace vm::accel
