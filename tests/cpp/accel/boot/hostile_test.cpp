// Images that lie. Each is refused, saying what is wrong, before anything is written.

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "images.hpp"
#include "vm/accel/boot/loader.hpp"
#include "vm/accel/boot/memory_map.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::boot {
namespace {

struct Lie {
  const char* name;
  std::function<Builder()> build;
  ImageKind kind;
  const char* message;  // that the refusal contains
};

void PrintTo(const Lie& lie, std::ostream* out) { *out << lie.name; }

Builder addresses(std::uint32_t header, std::uint32_t load, std::uint32_t load_end, std::uint32_t bss_end) {
  Builder b = multiboot(Builder(0x40), 8, 1 << 16);
  return b.put(20, header, 4).put(24, load, 4).put(28, load_end, 4).put(32, bss_end, 4).put(36, load, 4);
}

const std::vector<Lie> lies = {
    {"cut_header",
     [] {
       return Builder(20)
           .text(0,
                 "\x7f"
                 "ELF")
           .put(4, 2, 1)
           .put(5, 1, 1)
           .put(16, 2, 2)
           .put(18, 62, 2);
     },
     ImageKind::elf, "leaves the image"},
    {"no_elf", [] { return Builder(100); }, ImageKind::elf, "0x7f ELF"},
    {"elf_class", [] { return elf32().put(4, 3, 1); }, ImageKind::elf, "class 3"},
    {"big_endian", [] { return elf32().put(5, 2, 1); }, ImageKind::elf, "little-endian"},
    {"core_dump", [] { return elf32().put(16, 4, 2); }, ImageKind::elf, "type 4"},
    {"machine", [] { return elf32().put(18, 183, 2); }, ImageKind::elf, "machine 183"},
    {"header_size", [] { return elf32().put(42, 31, 2); }, ImageKind::elf, "31 bytes"},
    {"header_table", [] { return elf64().put(32, ~std::uint64_t{0} - 8, 8); }, ImageKind::elf, "header table"},
    {"header_count", [] { return elf32().put(44, 0xFFFF, 2); }, ImageKind::elf, "header table"},
    {"nothing_to_load", [] { return elf32().put(52, 2, 4); }, ImageKind::elf, "no segment"},
    {"offset_wraps", [] { return elf64().put(72, ~std::uint64_t{0} - 7, 8); }, ImageKind::elf, "segment 0"},
    {"file_size", [] { return elf64().put(96, std::uint64_t{1} << 62, 8); }, ImageKind::elf, "leaves the image"},
    {"more_in_file", [] { return elf32().put(72, 15, 4); }, ImageKind::elf, "0x10 bytes of the image for 0xf"},
    {"no_memory", [] { return elf32(0x80000000); }, ImageKind::elf, "do not lie in one writable region"},
    {"memory_wraps", [] { return elf64(~std::uint64_t{0} - 8); }, ImageKind::elf, "do not lie in one writable region"},
    {"memory_size", [] { return elf64().put(104, ~std::uint64_t{0}, 8); }, ImageKind::elf, "do not lie"},
    {"notes", [] { return pvh(0).put(128, 0x1000, 8); }, ImageKind::pvh, "ELF notes"},
    {"note_size", [] { return pvh(0).put(0xC4, 0xFFFFFFFF, 4); }, ImageKind::pvh, "no ELF note"},
    {"note_name", [] { return pvh(0).text(0xCC, "Yen"); }, ImageKind::pvh, "no ELF note"},
    {"no_header", [] { return Builder(100); }, ImageKind::multiboot, "checksum"},
    {"checksum", [] { return multiboot(elf32(), 0x60, 0).put(0x68, 1, 4); }, ImageKind::multiboot, "checksum"},
    {"not_elf", [] { return multiboot(Builder(100), 0, 0); }, ImageKind::multiboot, "has to be ELF"},
    {"load_above_header", [] { return addresses(0x100000, 0x100004, 0, 0); }, ImageKind::multiboot, "loading begins"},
    {"before_the_file", [] { return addresses(0x100009, 0x100000, 0, 0); }, ImageKind::multiboot, "loading begins"},
    {"load_end", [] { return addresses(0x100008, 0x100000, 0xFFFFF, 0); }, ImageKind::multiboot, "below load_addr"},
    {"load_more", [] { return addresses(0x100008, 0x100000, 0x110000, 0); }, ImageKind::multiboot, "leaves the image"},
    {"bss_end", [] { return addresses(0x100008, 0x100000, 0, 0x100001); }, ImageKind::multiboot, "below the end"},
    {"bss_outside", [] { return addresses(0x100008, 0x100000, 0, 0xFFFFFFFF); }, ImageKind::multiboot, "do not lie"},
    {"no_setup", [] { return Builder(0x400); }, ImageKind::bzimage, "HdrS"},
    {"old_protocol", [] { return bzimage().put(0x206, 0x203, 2); }, ImageKind::bzimage, "0x203"},
    {"zimage", [] { return bzimage().put(0x211, 0, 1); }, ImageKind::bzimage, "zImage"},
    {"setup_too_long", [] { return bzimage().put(0x1F1, 200, 1); }, ImageKind::bzimage, "leaves no kernel"},
    {"alignment", [] { return bzimage().put(0x230, 0x300000, 4); }, ImageKind::bzimage, "kernel_alignment"},
    {"init_size", [] { return bzimage().put(0x260, 0xF0000000, 4); }, ImageKind::bzimage, "do not lie"},
    {"preferred", [] { return bzimage().put(0x234, 0, 1).put(0x258, ~std::uint64_t{0}, 8); }, ImageKind::bzimage,
     "do not lie"},
};

class Hostile : public testing::TestWithParam<Lie> {};

TEST_P(Hostile, IsRefusedWithTheReasonAndLeavesMemoryAlone) {
  const auto memory = pc_memory(16 << 20);
  const std::uint64_t mark = 0x5A5A5A5A5A5A5A5A;
  memory->write(0x100000, &mark, sizeof mark);
  LoadOptions options;
  options.kind = GetParam().kind;
  try {
    load(memory, GetParam().build().image(), options);
    FAIL() << "loaded";
  } catch (const InvalidConfig& error) {
    EXPECT_NE(std::string(error.what()).find(GetParam().message), std::string::npos) << error.what();
  }
  std::uint64_t after = 0;
  memory->read(0x100000, &after, sizeof after);
  EXPECT_EQ(after, mark);
}

INSTANTIATE_TEST_SUITE_P(Images, Hostile, testing::ValuesIn(lies), [](const auto& lie) { return lie.param.name; });

TEST(Requests, ThatDoNotFitAreRefused) {
  const auto memory = pc_memory(2 << 20);
  LoadOptions options;
  options.command_line = std::string(0x10000, 'x');
  EXPECT_THROW(load(memory, multiboot(elf32(), 0x60, 0).image(), options), InvalidConfig);
  EXPECT_THROW(load(memory, pvh(0x100000).image(), options), InvalidConfig);
  options.command_line = std::string("a\0b", 3);
  EXPECT_THROW(load(memory, multiboot(elf32(), 0x60, 0).image(), options), InvalidConfig);
  options.command_line.clear();
  options.modules = {{"large", std::vector<std::byte>(2 << 20)}};
  EXPECT_THROW(load(memory, multiboot(elf32(), 0x60, 0).image(), options), InvalidConfig);
  EXPECT_THROW(load(memory, pvh(0x100000).image(), options), InvalidConfig);
  EXPECT_THROW(load(memory, elf32().image(), options), InvalidConfig);
  options.modules.clear();
  EXPECT_THROW(load(memory, multiboot(elf32(), 0x60, 4).image(), options), NotSupported);
  EXPECT_THROW(load(memory, multiboot(elf32(), 0x60, 0x10).image(), options), NotSupported);
  options.flat_address = 0x10000;
  EXPECT_THROW(load(memory, Builder(4).image(), options), InvalidConfig);
  options.command_line = std::string(101, 'x');  // the kernel says 100
  EXPECT_THROW(load(pc_memory(16 << 20), bzimage().image(), options), InvalidConfig);
}

// Whatever a header says, the loader answers or refuses; a sanitizer build watches it.
TEST(Mutations, NeverLeaveMemory) {
  std::mt19937_64 random(20);
  const auto memory = pc_memory(4 << 20);
  const std::vector<std::function<Builder()>> bases = {
      [] { return elf32(); },
      [] { return elf64(); },
      [] { return pvh(0x100000); },
      &bzimage,
      [] { return multiboot(elf32(), 0x60, 0); },
      [] { return addresses(0x100008, 0x100000, 0x100030, 0x100100); }};
  int loaded = 0;
  for (int i = 0; i < 4000; ++i) {
    Builder b = bases[static_cast<std::size_t>(i) % bases.size()]();
    const std::size_t size = b.image().bytes.size();
    for (std::uint64_t n = 1 + random() % 3; n > 0; --n)
      b.put(random() % (size - 8), random() % 2 == 0 ? random() : ~std::uint64_t{0} - random() % 64, 1 << random() % 4);
    try {
      load(memory, b.image());
      ++loaded;
    } catch (const VmError&) {  // refused
    }
  }
  EXPECT_GT(loaded, 100);
}

}  // namespace
}  // namespace vm::accel::boot
