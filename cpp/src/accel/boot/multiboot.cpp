// Multiboot Specification version 0.6.96, §3.

#include <algorithm>

#include "formats.hpp"
#include "vm/accel/boot/memory_map.hpp"
#include "vm/core/error.hpp"

namespace vm::accel::boot {
namespace {

constexpr std::uint32_t header_magic = 0x1BADB002, loader_magic = 0x2BADB002;
constexpr std::uint32_t search_end = 8192;
constexpr std::uint32_t flag_video = 1 << 2, flag_addresses = 1 << 16;
constexpr std::uint32_t must_understand = 0xFFFF;
constexpr std::uint32_t understood = 1 << 0 | 1 << 1;  // modules at pages; memory information: both always
constexpr std::uint32_t has_memory = 1 << 0, has_command_line = 1 << 2, has_modules = 1 << 3, has_map = 1 << 6,
                        has_loader_name = 1 << 9;
constexpr std::size_t info_size = 88, module_size = 16, map_entry_size = 24;
constexpr const char* loader_name = "vm_accel";

struct Program {
  std::vector<Segment> segments;
  std::uint64_t entry, first, last;
};

/// A program that says itself where it goes.
Program read_addresses(const ImageReader& reader, const mem::GuestMemory& memory, std::uint64_t header) {
  constexpr const char* what = "multiboot header";
  const std::uint64_t header_at = reader.u32(header + 12, what), load = reader.u32(header + 16, what);
  const std::uint64_t load_end = reader.u32(header + 20, what), bss_end = reader.u32(header + 24, what);
  if (load > header_at || header_at - load > header)
    reader.refuse("the multiboot header at offset " + hex(header) + " is for address " + hex(header_at) +
                  ", but loading begins at " + hex(load));
  Segment segment;
  segment.offset = header - (header_at - load);
  segment.paddr = load;
  if (load_end != 0 && load_end < load)
    reader.refuse("multiboot load_end_addr " + hex(load_end) + " is below load_addr " + hex(load));
  segment.file_size = load_end != 0 ? load_end - load : reader.size() - segment.offset;
  if (bss_end != 0 && bss_end < load + segment.file_size)
    reader.refuse("multiboot bss_end_addr " + hex(bss_end) + " is below the end of the data");
  segment.memory_size = bss_end != 0 ? bss_end - load : segment.file_size;
  if (segment.memory_size == 0) reader.refuse("the multiboot header loads nothing");
  check_segment(reader, memory, segment, "multiboot image");
  return {{segment}, reader.u32(header + 28, what), load, load + (segment.memory_size - 1)};
}

Program read_program(const ImageReader& reader, const mem::GuestMemory& memory, std::uint64_t header,
                     std::uint32_t flags) {
  if ((flags & flag_addresses) != 0) return read_addresses(reader, memory, header);
  if (!is_elf(reader)) reader.refuse("a multiboot image without addresses in its header (bit 16) has to be ELF");
  ElfImage elf = read_elf(reader, memory);
  return {std::move(elf.segments), elf.entry, elf.first, elf.last};
}

}  // namespace

std::optional<std::uint64_t> find_multiboot(const ImageReader& reader) {
  constexpr const char* what = "multiboot header";
  for (std::uint64_t at = 0; at + 12 <= search_end && reader.holds(at, 12); at += 4) {
    if (reader.u32(at, what) != header_magic) continue;
    const std::uint32_t sum = header_magic + reader.u32(at + 4, what) + reader.u32(at + 8, what);
    if (sum == 0) return at;
  }
  return std::nullopt;
}

LoadedImage load_multiboot(const ImageReader& reader, mem::GuestMemory& memory, const Image& image,
                           const LoadOptions& options) {
  const auto header = find_multiboot(reader);
  if (!header) reader.refuse("no multiboot header with a right checksum in the first 8192 bytes");
  const std::uint32_t flags = reader.u32(*header + 4, "multiboot header");
  if ((flags & must_understand & ~understood) != 0) {
    const bool video = (flags & flag_video) != 0;
    throw NotSupported(image.name + ": the multiboot header demands " +
                       (video ? "a video mode, and there is no screen" : "features " + hex(flags & must_understand)));
  }
  const Program program = read_program(reader, memory, *header, flags);
  if (program.entry >> 32 != 0) reader.refuse("the entry " + hex(program.entry) + " is above 4 GiB");

  const auto map = memory_map(memory);
  const std::uint64_t memory_end = contiguous_end(map);
  const std::size_t map_at = info_size, modules_at = map_at + map.size() * map_entry_size;
  const std::size_t name_at = modules_at + options.modules.size() * module_size;
  Structure info(align_up(name_at + 16, 16));
  std::uint64_t strings = place::command_line + 1 + image.name.size() + 1 + options.command_line.size();
  std::uint64_t free = std::max(program.last + 1, high_memory_start);
  std::string text = image.name + (options.command_line.empty() ? "" : " " + options.command_line);
  strings = place::command_line + text.size() + 1;
  std::vector<std::uint64_t> module_places;
  for (std::size_t i = 0; i < options.modules.size(); ++i) {
    const Image& module = options.modules[i];
    const std::uint64_t at = place_module(reader, memory, free, memory_end, module, false);
    module_places.push_back(at);
    free = at + module.bytes.size();
    info.put(modules_at + i * module_size, at, 4);
    info.put(modules_at + i * module_size + 4, free, 4);
    info.put(modules_at + i * module_size + 8, strings, 4);
    if (strings + module.name.size() + 1 > place::command_line_end)
      reader.refuse("the command line and the names of the modules are too long");
    strings += module.name.size() + 1;
  }
  for (std::size_t i = 0; i < map.size(); ++i) {
    const std::size_t at = map_at + i * map_entry_size;
    info.put(at, map_entry_size - 4, 4);  // the size does not count itself
    info.put(at + 4, map[i].base, 8);
    info.put(at + 12, map[i].size, 8);
    info.put(at + 20, static_cast<std::uint32_t>(map[i].type), 4);
  }
  for (std::size_t i = 0; loader_name[i] != '\0'; ++i)
    info.put(name_at + i, static_cast<unsigned char>(loader_name[i]), 1);
  info.put(0, has_memory | has_command_line | has_modules | has_map | has_loader_name, 4);
  info.put(4, low_memory_end / 1024, 4);
  info.put(8, memory_end > high_memory_start ? (memory_end - high_memory_start) / 1024 : 0, 4);
  info.put(16, place::command_line, 4);
  info.put(20, options.modules.size(), 4);
  info.put(24, place::multiboot_info + modules_at, 4);
  info.put(44, map.size() * map_entry_size, 4);
  info.put(48, place::multiboot_info + map_at, 4);
  info.put(64, place::multiboot_info + name_at, 4);

  for (const Segment& segment : program.segments) write_segment(reader, memory, segment);
  write_command_line(reader, memory, text);
  strings = place::command_line + text.size() + 1;
  for (std::size_t i = 0; i < options.modules.size(); ++i) {
    const Image& module = options.modules[i];
    memory.write(module_places[i], module.bytes.data(), module.bytes.size());
    memory.write(strings, module.name.c_str(), module.name.size() + 1);
    strings += module.name.size() + 1;
  }
  info.write(memory, place::multiboot_info);
  LoadedImage loaded{ImageKind::multiboot, EntryMode::protected32, {}, program.first, program.last};
  loaded.regs.rax = loader_magic;
  loaded.regs.rbx = place::multiboot_info;
  loaded.regs.rip = program.entry;
  return loaded;
}

}  // namespace vm::accel::boot
