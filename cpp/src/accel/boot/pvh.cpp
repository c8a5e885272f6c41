// The x86/HVM direct boot ABI (Xen, docs/misc/pvh.pandoc and xen/include/public/arch-x86/hvm/start_info.h).

#include "formats.hpp"
#include "vm/accel/boot/memory_map.hpp"

namespace vm::accel::boot {
namespace {

constexpr std::uint32_t magic = 0x336EC578;
constexpr std::size_t info_size = 56, module_size = 32, map_entry_size = 24;

}  // namespace

LoadedImage load_pvh(const ImageReader& reader, mem::GuestMemory& memory, const LoadOptions& options) {
  if (!is_elf(reader)) reader.refuse("a PVH kernel is an ELF image");
  const ElfImage elf = read_elf(reader, memory);
  if (!elf.pvh_entry) reader.refuse("no ELF note of Xen names a 32-bit entry (XEN_ELFNOTE_PHYS32_ENTRY)");
  if (options.modules.size() > 1) reader.refuse("a PVH kernel takes one module, the initrd");
  const auto map = memory_map(memory);
  const std::size_t map_at = info_size, module_at = map_at + map.size() * map_entry_size;
  Structure info(module_at + module_size);
  info.put(0, magic, 4);
  info.put(4, 1, 4);  // version
  info.put(24, place::command_line, 8);
  info.put(40, place::start_info + map_at, 8);
  info.put(48, map.size(), 4);
  for (std::size_t i = 0; i < map.size(); ++i) {
    const std::size_t at = map_at + i * map_entry_size;
    info.put(at, map[i].base, 8);
    info.put(at + 8, map[i].size, 8);
    info.put(at + 16, static_cast<std::uint32_t>(map[i].type), 4);
  }
  if (!options.modules.empty()) {
    const Image& module = options.modules.front();
    const std::uint64_t at = place_module(reader, memory, elf.last + 1, contiguous_end(map), module, true);
    memory.write(at, module.bytes.data(), module.bytes.size());
    info.put(12, 1, 4);
    info.put(16, place::start_info + module_at, 8);
    info.put(module_at, at, 8);
    info.put(module_at + 8, module.bytes.size(), 8);
  }
  write_elf(reader, memory, elf);
  write_command_line(reader, memory, options.command_line);
  info.write(memory, place::start_info);
  LoadedImage loaded{ImageKind::pvh, EntryMode::protected32, {}, elf.first, elf.last};
  loaded.regs.rbx = place::start_info;
  loaded.regs.rip = *elf.pvh_entry;
  return loaded;
}

}  // namespace vm::accel::boot
