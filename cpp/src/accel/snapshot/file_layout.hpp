#pragma once
/// \file
/// What the bytes of a snapshot file mean; see file.hpp.

#include <array>
#include <cstddef>
#include <cstdint>

namespace vm::accel::snapshot_file {

// Not text, and damaged visibly by programs that change line ends (as the signature of PNG).
inline constexpr std::array<unsigned char, 8> magic = {0x89, 'V', 'M', 'S', 'N', 'P', '\r', '\n'};
inline constexpr std::uint32_t version = 1;
inline constexpr std::uint32_t byte_order = 0x01020304;
inline constexpr std::uint32_t most_sections = 1 << 16;  // a damaged count must not allocate the machine's memory
inline constexpr std::uint64_t block_pages = 256;

struct Header {
  std::array<unsigned char, 8> magic;
  std::uint32_t version;
  std::uint32_t byte_order;
  std::uint64_t file_size;
  std::uint32_t sections;
  std::uint32_t table_crc;
  std::array<unsigned char, 28> reserved;  // zeros
  std::uint32_t crc;                       // of everything before it
};
static_assert(sizeof(Header) == 64);

enum class Kind : std::uint32_t { machine = 1, slots, vm_state, vcpu_state, present, block_crcs, memory };

struct Section {
  std::uint32_t kind;
  std::uint32_t index;  // of a vCPU
  std::uint64_t offset;
  std::uint64_t size;
  std::uint32_t crc;  // 0 for memory, which has one per block
  std::uint32_t reserved;
};
static_assert(sizeof(Section) == 32);

struct Slot {
  std::uint64_t base;
  std::uint64_t size;
  std::uint64_t image_page;
  std::uint32_t read_only;
  std::uint32_t name_size;  // bytes of the name, which follows
};
static_assert(sizeof(Slot) == 32);

}  // namespace vm::accel::snapshot_file
