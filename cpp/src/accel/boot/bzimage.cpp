// The Linux/x86 Boot Protocol (Linux, Documentation/arch/x86/boot.rst and zero-page.rst).

#include <algorithm>

#include "formats.hpp"
#include "vm/accel/boot/memory_map.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::boot {
namespace {

constexpr std::uint32_t header_magic = 0x53726448;  // "HdrS"
constexpr std::uint16_t boot_flag = 0xAA55;
constexpr const char* what = "setup header";

// Offsets in the image and in the zero page alike.
constexpr std::uint64_t e820_count = 0x1E8, setup_sects = 0x1F1, flag_at = 0x1FE, jump = 0x201, magic_at = 0x202,
                        version_at = 0x206, type_of_loader = 0x210, loadflags = 0x211, ramdisk_image = 0x218,
                        ramdisk_size = 0x21C, cmd_line_ptr = 0x228, initrd_addr_max = 0x22C, kernel_alignment = 0x230,
                        relocatable = 0x234, xloadflags = 0x236, cmdline_size = 0x238, pref_address = 0x258,
                        init_size = 0x260, e820_table = 0x2D0;
constexpr std::uint64_t sector = 512, entry64 = 0x200;
constexpr std::size_t zero_page_size = 4096, e820_entry_size = 20, e820_most = 128;

struct Setup {
  std::uint16_t version;
  std::uint64_t kernel_offset;  // of the protected-mode part
  std::uint64_t load;
  std::uint64_t memory_size;  // that the kernel needs from `load` on
  bool has_64bit_entry;
};

Setup read_setup(const ImageReader& reader) {
  Setup setup{};
  setup.version = reader.u16(version_at, what);
  if (setup.version < 0x0206) {
    reader.refuse("boot protocol " + hex(setup.version) + " at offset 0x206; kernels since 2.6.22 have 0x206 or later");
  }
  const std::uint64_t sectors = reader.u8(setup_sects, what);
  setup.kernel_offset = ((sectors == 0 ? 4 : sectors) + 1) * sector;
  if (setup.kernel_offset >= reader.size()) {
    reader.refuse("the setup code of " + hex(setup.kernel_offset) + " bytes (offset 0x1f1) leaves no kernel in " +
                  hex(reader.size()));
  }
  if ((reader.u8(loadflags, what) & 1) == 0)
    reader.refuse("a zImage, loaded below 1 MiB (offset 0x211); use the bzImage");
  const bool knows_size = setup.version >= 0x020A;
  setup.load = knows_size && reader.u8(relocatable, what) == 0 ? reader.u64(pref_address, what) : high_memory_start;
  const std::uint64_t alignment = reader.u32(kernel_alignment, what);
  if (knows_size && reader.u8(relocatable, what) != 0 && alignment != 0) {
    if ((alignment & (alignment - 1)) != 0 || alignment > (std::uint64_t{1} << 30))
      reader.refuse("kernel_alignment " + hex(alignment) + " at offset 0x230 is no power of two up to 1 GiB");
    setup.load = align_up(setup.load, alignment);
  }
  const std::uint64_t file_size = reader.size() - setup.kernel_offset;
  setup.memory_size = std::max<std::uint64_t>(file_size, knows_size ? reader.u32(init_size, what) : 0);
  setup.has_64bit_entry = setup.version >= 0x020C && (reader.u16(xloadflags, what) & 1) != 0;
  return setup;
}

}  // namespace

bool is_bzimage(const ImageReader& reader) {
  return reader.holds(0, version_at + 2) && reader.u16(flag_at, what) == boot_flag &&
         reader.u32(magic_at, what) == header_magic;
}

LoadedImage load_bzimage(const ImageReader& reader, mem::GuestMemory& memory, const LoadOptions& options) {
  if (!is_bzimage(reader)) reader.refuse("no Linux setup header: \"HdrS\" at offset 0x202 and 0xaa55 at 0x1fe");
  const Setup setup = read_setup(reader);
  if (options.modules.size() > 1) reader.refuse("Linux takes one module, the initrd");
  const Segment kernel{setup.kernel_offset, reader.size() - setup.kernel_offset, setup.load, setup.memory_size};
  check_segment(reader, memory, kernel, "kernel");
  const auto map = memory_map(memory);
  if (map.size() > e820_most) reader.refuse("the guest's memory has more than 128 ranges");

  Structure zero_page(zero_page_size);
  const std::uint64_t header_end = std::min<std::uint64_t>(magic_at + reader.u8(jump, what), e820_table);
  const std::uint64_t header_size = header_end - setup_sects;
  zero_page.put_bytes(setup_sects, reader.bytes(setup_sects, header_size, what), header_size);
  zero_page.put(type_of_loader, 0xFF, 1);  // a loader without a number
  zero_page.put(cmd_line_ptr, place::command_line, 4);
  for (std::size_t i = 0; i < map.size(); ++i) {
    zero_page.put(e820_table + i * e820_entry_size, map[i].base, 8);
    zero_page.put(e820_table + i * e820_entry_size + 8, map[i].size, 8);
    zero_page.put(e820_table + i * e820_entry_size + 16, static_cast<std::uint32_t>(map[i].type), 4);
  }
  zero_page.put(e820_count, map.size(), 1);
  if (!options.modules.empty()) {
    const Image& initrd = options.modules.front();
    const std::uint64_t end = std::min<std::uint64_t>(contiguous_end(map), reader.u32(initrd_addr_max, what) + 1ULL);
    const std::uint64_t at = place_module(reader, memory, setup.load + setup.memory_size, end, initrd, true);
    memory.write(at, initrd.bytes.data(), initrd.bytes.size());
    zero_page.put(ramdisk_image, at, 4);
    zero_page.put(ramdisk_size, initrd.bytes.size(), 4);
  }
  write_command_line(reader, memory, options.command_line, reader.u32(cmdline_size, what));
  const Segment bytes{kernel.offset, kernel.file_size, kernel.paddr, kernel.file_size};  // the rest clears itself
  write_segment(reader, memory, bytes);
  zero_page.write(memory, place::zero_page);

  LoadedImage loaded{ImageKind::bzimage,
                     setup.has_64bit_entry ? EntryMode::long64 : EntryMode::protected32,
                     {},
                     setup.load,
                     setup.load + (setup.memory_size - 1)};
  loaded.regs.rip = setup.has_64bit_entry ? setup.load + entry64 : setup.load;
  loaded.regs.rsi = place::zero_page;
  loaded.regs.rsp = place::stack;
  return loaded;
}

}  // namespace vm::accel::boot
