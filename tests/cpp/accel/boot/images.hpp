#pragma once
/// \file
/// Images built by hand.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vm/accel/boot/loader.hpp"

namespace vm::accel::boot {

class Builder {
 public:
  explicit Builder(std::size_t size) : bytes_(size) {}
  Builder& put(std::size_t offset, std::uint64_t value, unsigned length) {
    if (offset + length > bytes_.size()) bytes_.resize(offset + length);
    for (unsigned i = 0; i < length; ++i) bytes_[offset + i] = static_cast<std::byte>(value >> (8 * i));
    return *this;
  }
  Builder& text(std::size_t offset, const std::string& value) {
    for (std::size_t i = 0; i < value.size(); ++i) put(offset + i, static_cast<unsigned char>(value[i]), 1);
    return *this;
  }
  Image image(const std::string& name = "test") const { return {name, bytes_}; }

 private:
  std::vector<std::byte> bytes_;
};

/// An ELF32 with one segment of 16 bytes at file offset 0x60, for `paddr`, 0x40 bytes in memory.
inline Builder elf32(std::uint32_t paddr = 0x100000, std::uint32_t vaddr = 0x100000) {
  Builder b(0x70);
  b.text(0,
         "\x7f"
         "ELF")
      .put(4, 1, 1)
      .put(5, 1, 1)
      .put(6, 1, 1)
      .put(16, 2, 2)
      .put(18, 3, 2)
      .put(20, 1, 4);
  b.put(24, vaddr + 4, 4).put(28, 52, 4).put(42, 32, 2).put(44, 1, 2);
  b.put(52, 1, 4).put(56, 0x60, 4).put(60, vaddr, 4).put(64, paddr, 4).put(68, 16, 4).put(72, 0x40, 4).put(76, 5, 4);
  return b.text(0x60, "0123456789abcdef");
}

/// The same as ELF64.
inline Builder elf64(std::uint64_t paddr = 0x100000, std::uint64_t vaddr = 0x100000) {
  Builder b(0x90);
  b.text(0,
         "\x7f"
         "ELF")
      .put(4, 2, 1)
      .put(5, 1, 1)
      .put(6, 1, 1)
      .put(16, 2, 2)
      .put(18, 62, 2)
      .put(20, 1, 4);
  b.put(24, vaddr + 4, 8).put(32, 64, 8).put(54, 56, 2).put(56, 1, 2);
  b.put(64, 1, 4).put(68, 5, 4).put(72, 0x80, 8).put(80, vaddr, 8).put(88, paddr, 8).put(96, 16, 8).put(104, 0x40, 8);
  return b.text(0x80, "0123456789abcdef");
}

/// An ELF64 with a second program header for a note, in front of the segment's bytes.
inline Builder pvh(std::uint32_t entry) {
  Builder b = elf64();
  b.put(56, 2, 2).put(72, 0x100, 8).text(0x100, "0123456789abcdef");
  b.put(120, 4, 4).put(128, 0xC0, 8).put(152, 20, 8).put(160, 20, 8);
  return b.put(0xC0, 4, 4).put(0xC4, 4, 4).put(0xC8, 18, 4).text(0xCC, "Xen").put(0xCF, 0, 1).put(0xD0, entry, 4);
}

/// Puts a multiboot header at `offset`.
inline Builder multiboot(Builder b, std::size_t offset, std::uint32_t flags) {
  constexpr std::uint32_t magic = 0x1BADB002;
  return b.put(offset, magic, 4).put(offset + 4, flags, 4).put(offset + 8, 0U - (magic + flags), 4);
}

/// A bzImage of protocol 2.15 with one sector of setup code and 0x400 bytes of kernel.
inline Builder bzimage() {
  Builder b(0x400 + 0x400);
  b.put(0x1F1, 1, 1).put(0x1FE, 0xAA55, 2).put(0x200, 0x66EB, 2).text(0x202, "HdrS").put(0x206, 0x020F, 2);
  b.put(0x211, 1, 1).put(0x214, 0x100000, 4).put(0x22C, 0x7FFFFFFF, 4).put(0x230, 0x200000, 4).put(0x234, 1, 1);
  b.put(0x236, 1, 2).put(0x238, 100, 4).put(0x258, 0x1000000, 8).put(0x260, 0x10000, 4);
  return b.text(0x400, "kernel");
}

}  // namespace vm::accel::boot
