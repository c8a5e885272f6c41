#pragma once
// Tables full of random entries for every format: valid ones, reserved bits, blocks at every level, tables outside
// memory, loops.

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "vm/mem/guest/memory.hpp"
#include "vm/mem/paging/address_space.hpp"

namespace vm::mem::paging {

inline constexpr std::uint64_t memory_size = std::uint64_t{1} << 20;

struct Format {
  std::string name;
  PagingConfig config;
  unsigned page_shift;
  unsigned index_bits;
  unsigned virtual_bits;
  bool wide;
  std::uint64_t top_flags = 1;
};

inline X86Config x86(int levels) {
  X86Config c;
  c.levels = levels;
  c.root = 0;
  c.smep = true;
  return c;
}
inline X86Config x86_with_keys() {
  X86Config c = x86(4);
  c.protection_keys = true;
  c.pkru = 0xAAAAAAA4;  // key 0 free, key 1 access disabled, the others write disabled
  c.smap = true;
  return c;
}
inline RiscVConfig riscv(RiscVMode mode, bool svadu) {
  RiscVConfig c;
  c.mode = mode;
  c.sum = true;
  c.svadu = svadu;
  return c;
}
inline AArch64Config aarch64(std::uint64_t granule, bool hardware_flags) {
  AArch64Config c;
  c.granule = granule;
  c.tcr = AArch64Config::default_tcr(granule);
  if (hardware_flags) c.tcr |= std::uint64_t{3} << 39;  // HA, HD
  return c;
}

inline std::vector<Format> formats() {
  return {{"x86_2", x86(2), 12, 10, 32, false, 0x27},
          {"x86_pae", x86(3), 12, 9, 32, true},
          {"x86_4", x86(4), 12, 9, 48, true, 0x27},
          {"x86_5", x86(5), 12, 9, 57, true, 0x27},
          {"x86_keys", x86_with_keys(), 12, 9, 48, true, 0x27},
          {"sv32", riscv(RiscVMode::sv32, false), 12, 10, 32, false},
          {"sv39", riscv(RiscVMode::sv39, false), 12, 9, 39, true},
          {"sv48_svadu", riscv(RiscVMode::sv48, true), 12, 9, 48, true},
          {"sv57", riscv(RiscVMode::sv57, false), 12, 9, 57, true},
          {"aarch64_4k", aarch64(4096, false), 12, 9, 48, true},
          {"aarch64_16k_hardware", aarch64(16384, true), 14, 11, 48, true},
          {"aarch64_64k", aarch64(65536, false), 16, 13, 48, true}};
}

// Flags of an entry that works: a table above the last level and a page in it; RISC-V has to choose.
inline std::uint64_t sound_flags(const Format& f, std::uint64_t r) {
  if (std::holds_alternative<AArch64Config>(f.config)) return 0x403 | (r & 0xC0);
  if (std::holds_alternative<RiscVConfig>(f.config)) return r % 5 < 4 ? 1 : 0xC7 | (r & 0x18);
  return 0x21 | (r & 0x46);
}

// Three in five entries are sound; the others are absent, or random in the flags and sometimes in the high bits. One
// address in nine is outside memory.
inline std::uint64_t random_entry(const Format& f, std::mt19937_64& random) {
  const std::uint64_t r = random();
  const std::uint64_t page_mask = ~((std::uint64_t{1} << f.page_shift) - 1);
  std::uint64_t address = random() % (memory_size + memory_size / 8) & page_mask;
  if (std::holds_alternative<RiscVConfig>(f.config)) address >>= 2;
  if (r % 5 < 3) return address | sound_flags(f, r >> 8);
  if (r % 5 == 3) return 0;
  std::uint64_t entry = address | (random() & 0xFFF) | 1;
  if (f.wide && r % 3 == 0) entry |= random() & 0xFFF0'0000'0000'0000;
  if (f.wide && r % 7 == 0) entry |= std::uint64_t{1} << (random() % 64);
  return entry;
}

inline std::vector<std::byte> random_bytes(const Format& f) {
  std::mt19937_64 random(1);
  const std::size_t entry_size = f.wide ? 8 : 4;
  std::vector<std::byte> bytes(memory_size);
  for (std::size_t at = 0; at < memory_size; at += entry_size) {
    const std::uint64_t entry = random_entry(f, random);
    std::memcpy(bytes.data() + at, &entry, entry_size);
  }
  // Sound pointers in the top table's first and last entries, so that the walks get past it.
  const std::uint64_t top = std::holds_alternative<AArch64Config>(f.config) ? 3 : f.top_flags;
  for (const std::size_t at : {std::size_t{0}, entry_size, 2 * entry_size, 3 * entry_size, 4096 - entry_size}) {
    std::uint64_t page = (random() % (memory_size >> f.page_shift)) << f.page_shift;
    if (std::holds_alternative<RiscVConfig>(f.config)) page >>= 2;
    page |= top;
    std::memcpy(bytes.data() + at, &page, entry_size);
  }
  return bytes;
}

// The same contents each time for one format.
inline std::shared_ptr<GuestMemory> random_memory(const Format& f) {
  static std::map<std::string, std::vector<std::byte>> contents;
  std::vector<std::byte>& bytes = contents[f.name];
  if (bytes.empty()) bytes = random_bytes(f);
  auto memory = GuestMemory::anonymous(memory_size);
  memory->write(0, bytes.data(), bytes.size());
  return memory;
}

// Addresses with few distinct upper indices, so that caches hit, blocks are met and both halves appear.
inline std::vector<std::uint64_t> random_addresses(const Format& f, std::uint64_t seed, std::size_t count) {
  std::mt19937_64 random(seed);
  std::vector<std::uint64_t> addresses(count);
  for (std::uint64_t& address : addresses) {
    address = random() & ((std::uint64_t{1} << (f.page_shift + f.index_bits)) - 1);
    for (unsigned shift = f.page_shift + f.index_bits; shift < f.virtual_bits; shift += f.index_bits)
      address |= (random() % 6) << shift;
    if (random() % 3 == 0 && f.virtual_bits > 32) address |= ~((std::uint64_t{1} << (f.virtual_bits - 1)) - 1);
    if (random() % 50 == 0) address = random();
  }
  return addresses;
}

}  // namespace vm::mem::paging
