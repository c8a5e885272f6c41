// Good images: what is where afterwards, and how the guest begins.

#include "vm/accel/boot/loader.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>

#include "images.hpp"
#include "vm/accel/boot/memory_map.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::boot {
namespace {

class Loader : public testing::Test {
 protected:
  std::uint64_t at(std::uint64_t paddr, unsigned length = 4) const {
    std::uint64_t value = 0;
    memory->read(paddr, &value, length);
    return value;
  }
  std::string text(std::uint64_t paddr) const {
    std::string result;
    while (const auto c = static_cast<char>(at(paddr++, 1))) result += c;
    return result;
  }

  std::shared_ptr<mem::GuestMemory> memory = pc_memory(16 << 20);
};

TEST_F(Loader, FlatBytesBeginInRealMode) {
  LoadOptions options;
  options.flat_address = 0x1000;
  const LoadedImage loaded = load(memory, Builder(4).text(0, "code").image(), options);
  EXPECT_EQ(loaded.kind, ImageKind::flat);
  EXPECT_EQ(loaded.mode, EntryMode::real16);
  EXPECT_EQ(loaded.regs.rip, 0x1000U);
  EXPECT_EQ(loaded.last, 0x1003U);
  EXPECT_EQ(text(0x1000), "code");
}

TEST_F(Loader, ElfSegmentsAreCopiedAndTheirRestCleared) {
  const std::uint64_t noise = ~std::uint64_t{0};
  memory->write(0x100010, &noise, sizeof noise);
  const LoadedImage loaded = load(memory, elf32(0x100000, 0xC0000000).image());
  EXPECT_EQ(loaded.kind, ImageKind::elf);
  EXPECT_EQ(loaded.mode, EntryMode::protected32);
  EXPECT_EQ(loaded.regs.rip, 0x100004U);  // the entry is a virtual address of the segment
  EXPECT_EQ(loaded.first, 0x100000U);
  EXPECT_EQ(loaded.last, 0x10003FU);
  EXPECT_EQ(text(0x100000), "0123456789abcdef");
  const LoadedImage wide = load(memory, elf64(0x200000, 0xFFFFFFFF80200000).image());
  EXPECT_EQ(wide.mode, EntryMode::long64);
  EXPECT_EQ(wide.regs.rip, 0x200004U);
}

TEST_F(Loader, MultibootGetsItsInformation) {
  LoadOptions options;
  options.command_line = "a=1 b";
  options.modules = {{"first", std::vector<std::byte>(5000)}, Builder(3).text(0, "two").image("second")};
  const LoadedImage loaded = load(memory, multiboot(elf32(), 0x60, 3).image("kernel.flat"), options);
  EXPECT_EQ(loaded.kind, ImageKind::multiboot);
  EXPECT_EQ(loaded.mode, EntryMode::protected32);
  EXPECT_EQ(loaded.regs.rax, 0x2BADB002U);
  EXPECT_EQ(loaded.regs.rip, 0x100004U);
  const std::uint64_t info = loaded.regs.rbx;
  EXPECT_EQ(at(info) & 0x4D, 0x4DU);
  EXPECT_EQ(at(info + 4), 639U);
  EXPECT_EQ(at(info + 8), 15U * 1024);
  EXPECT_EQ(text(at(info + 16)), "kernel.flat a=1 b");
  ASSERT_EQ(at(info + 20), 2U);
  const std::uint64_t modules = at(info + 24);
  EXPECT_EQ(at(modules), 0x101000U);
  EXPECT_EQ(at(modules + 4), 0x101000U + 5000);
  EXPECT_EQ(text(at(modules + 8)), "first");
  EXPECT_EQ(at(modules + 16), 0x103000U);
  EXPECT_EQ(text(at(modules + 24)), "second");
  EXPECT_EQ(text(at(modules + 16)), "two");
  const std::uint64_t map = at(info + 48);
  EXPECT_EQ(at(info + 44), 72U);
  EXPECT_EQ(at(map), 20U);
  EXPECT_EQ(at(map + 12, 8), 0x9FC00U);
  EXPECT_EQ(at(map + 24 + 20), 2U);  // what lies below 1 MiB is reserved
  EXPECT_EQ(at(map + 48 + 4, 8), 0x100000U);
  EXPECT_EQ(text(at(info + 64)), "vm_accel");
}

TEST_F(Loader, MultibootSaysItselfWhereItGoes) {
  // header at 8 of the file for 0x100008; loads 0x18 bytes, bss up to 0x100100, begins at 0x10000c
  Builder b = multiboot(Builder(0x40), 8, 1 << 16);
  b.put(20, 0x100008, 4).put(24, 0x100000, 4).put(28, 0x100040, 4).put(32, 0x100100, 4).put(36, 0x10000C, 4);
  const LoadedImage loaded = load(memory, b.image());
  EXPECT_EQ(loaded.regs.rip, 0x10000CU);
  EXPECT_EQ(loaded.first, 0x100000U);
  EXPECT_EQ(loaded.last, 0x1000FFU);
  EXPECT_EQ(at(0x100008), 0x1BADB002U);
}

TEST_F(Loader, LinuxGetsItsZeroPage) {
  LoadOptions options;
  options.command_line = "console=ttyS0";
  options.modules = {Builder(5).text(0, "cpio").image("initrd")};
  const LoadedImage loaded = load(memory, bzimage().image(), options);
  EXPECT_EQ(loaded.kind, ImageKind::bzimage);
  EXPECT_EQ(loaded.mode, EntryMode::long64);
  EXPECT_EQ(loaded.regs.rip, 0x200200U);  // aligned as it wants, 64-bit entry
  EXPECT_EQ(text(0x200000), "kernel");
  const std::uint64_t zero_page = loaded.regs.rsi;
  EXPECT_EQ(at(zero_page + 0x202), 0x53726448U);
  EXPECT_EQ(at(zero_page + 0x210, 1), 0xFFU);
  EXPECT_EQ(text(at(zero_page + 0x228)), "console=ttyS0");
  EXPECT_EQ(at(zero_page + 0x218), (16U << 20) - 4096);
  EXPECT_EQ(at(zero_page + 0x21C), 5U);
  EXPECT_EQ(text((16U << 20) - 4096), "cpio");
  EXPECT_EQ(at(zero_page + 0x1E8, 1), 3U);
  EXPECT_EQ(at(zero_page + 0x2D0 + 40, 8), 0x100000U);
  EXPECT_EQ(at(zero_page + 0x2D0 + 48, 8), 15U << 20);
  const LoadedImage old = load(memory, bzimage().put(0x236, 0, 2).image());
  EXPECT_EQ(old.mode, EntryMode::protected32);
  EXPECT_EQ(old.regs.rip, 0x200000U);
}

TEST_F(Loader, PvhGetsItsStartInfo) {
  LoadOptions options;
  options.command_line = "quiet";
  options.modules = {Builder(5).text(0, "cpio").image("initrd")};
  const LoadedImage loaded = load(memory, pvh(0x100008).image(), options);
  EXPECT_EQ(loaded.kind, ImageKind::pvh);
  EXPECT_EQ(loaded.mode, EntryMode::protected32);
  EXPECT_EQ(loaded.regs.rip, 0x100008U);
  const std::uint64_t info = loaded.regs.rbx;
  EXPECT_EQ(at(info), 0x336EC578U);
  EXPECT_EQ(at(info + 12), 1U);
  EXPECT_EQ(text(at(at(info + 16, 8), 8)), "cpio");
  EXPECT_EQ(text(at(info + 24, 8)), "quiet");
  EXPECT_EQ(at(info + 48), 3U);
  EXPECT_EQ(at(at(info + 40, 8) + 8, 8), 0x9FC00U);
}

TEST_F(Loader, TheKindCanBeSaid) {
  LoadOptions options;
  options.kind = ImageKind::flat;
  EXPECT_EQ(load(memory, elf32().image(), options).kind, ImageKind::flat);
  options.kind = ImageKind::elf;
  EXPECT_EQ(load(memory, multiboot(elf32(), 0x60, 0).image(), options).kind, ImageKind::elf);
  for (const char* name : {"automatic", "flat", "elf", "multiboot", "bzimage", "pvh"})
    EXPECT_STREQ(image_kind_name(parse_image_kind(name)), name);
  EXPECT_THROW(parse_image_kind("iso"), InvalidConfig);
  EXPECT_STREQ(entry_mode_name(EntryMode::long64), "long64");
}

TEST_F(Loader, ImagesComeFromFiles) {
  const std::string path = testing::TempDir() + "vm_accel_image";
  std::ofstream(path) << "bytes";
  EXPECT_EQ(Image::read(path).bytes.size(), 5U);
  std::ofstream(path, std::ios::trunc);
  EXPECT_THROW(Image::read(path), InvalidConfig);
  EXPECT_THROW(Image::read(testing::TempDir()), InvalidConfig);
  EXPECT_THROW(Image::read(path + ".absent"), PlatformError);
}

TEST(PcMemory, HasAHoleBelowFourGib) {
  const auto memory = pc_memory(std::uint64_t{5} << 30);
  const auto map = memory_map(*memory);
  ASSERT_EQ(map.size(), 4U);
  EXPECT_EQ(map[2].base + map[2].size, std::uint64_t{3} << 30);
  EXPECT_EQ(map[3].base, std::uint64_t{4} << 30);
  EXPECT_EQ(map[3].size, std::uint64_t{2} << 30);
  EXPECT_EQ(contiguous_end(map), std::uint64_t{3} << 30);
  EXPECT_EQ(contiguous_end({}), 0U);
  EXPECT_THROW(pc_memory(1000), InvalidConfig);
  EXPECT_THROW(pc_memory((1 << 20) - 4096), InvalidConfig);
}

}  // namespace
}  // namespace vm::accel::boot
